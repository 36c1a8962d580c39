#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 312
#endif
#ifndef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64
#endif
#include <fuse3/fuse_lowlevel.h>
