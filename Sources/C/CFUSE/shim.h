// The kernel's own FUSE protocol (/dev/fuse) and the three calls it takes: no libfuse, so nothing to link, no callbacks,
// no allocation a request.
#include <errno.h>
#include <linux/falloc.h>
#include <linux/fuse.h>
#include <stddef.h>
#include <sys/uio.h>
#include <unistd.h>

/// Bytes read, or a negated errno. EINTR is tried again.
static inline long cfuse_read(int descriptor, void *buffer, size_t count) {
  long result;
  do result = read(descriptor, buffer, count);
  while (result < 0 && errno == EINTR);
  return result < 0 ? -errno : result;
}

/// Answers one request: `error` is 0 or a negated errno, `data` follows the header. 0, or a negated errno.
static inline long cfuse_reply(int descriptor, unsigned long long unique, int error, const void *data, size_t count) {
  struct fuse_out_header header = {.len = (unsigned)(sizeof header + count), .error = error, .unique = unique};
  struct iovec parts[2] = {{&header, sizeof header}, {(void *)data, count}};
  long result;
  do result = writev(descriptor, parts, count > 0 ? 2 : 1);
  while (result < 0 && errno == EINTR);
  return result < 0 ? -errno : 0;
}

static inline long cfuse_write(int descriptor, const void *buffer, size_t count) {
  long result;
  do result = write(descriptor, buffer, count);
  while (result < 0 && errno == EINTR);
  return result < 0 ? -errno : result;
}
