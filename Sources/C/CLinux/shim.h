// What Swift cannot call by itself: variadic functions, macros, GNU extensions, and code between vfork and exec.
// Every function that makes a system call answers its result, or the negated errno, and repeats on EINTR where a
// repetition is right.
#ifndef CMC_CLINUX_SHIM_H
#define CMC_CLINUX_SHIM_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
// Swift's own Glibc module is built without _GNU_SOURCE, and the compiler refuses two definitions of fd_set whose
// field has two names. Included first without XOPEN names, ours is the same as theirs.
#include <features.h>
#undef __USE_XOPEN
#include <sys/select.h>
#define __USE_XOPEN 1
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CMC_RETRY(expression)                                  \
  long result;                                                 \
  do { result = (long)(expression); } while (result < 0 && errno == EINTR); \
  return result < 0 ? -errno : result

// ---- flags that need _GNU_SOURCE -------------------------------------------------------------------------------
static const int CMC_O_DIRECT = O_DIRECT;
static const int CMC_O_PATH = O_PATH;
static const int CMC_FALLOC_PUNCH_HOLE = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
static const int CMC_FALLOC_ZERO_RANGE = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
static const int CMC_SEEK_DATA = SEEK_DATA;
static const int CMC_SEEK_HOLE = SEEK_HOLE;
static const unsigned long CMC_MS_NOSUID_NODEV = MS_NOSUID | MS_NODEV;
static const unsigned long CMC_MS_RDONLY = MS_RDONLY;

// ---- clock, randomness, errors ---------------------------------------------------------------------------------
static inline uint64_t cmc_clock_nanoseconds(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}
static inline uint64_t cmc_monotonic_nanoseconds(void) { return cmc_clock_nanoseconds(CLOCK_MONOTONIC); }
static inline uint64_t cmc_realtime_nanoseconds(void) { return cmc_clock_nanoseconds(CLOCK_REALTIME); }
static inline long cmc_getrandom(void *buffer, size_t count) { CMC_RETRY(getrandom(buffer, count, 0)); }
static inline const char *cmc_error_text(int number, char *buffer, size_t count) {
  return strerror_r(number, buffer, count);
}

// ---- descriptors and files -------------------------------------------------------------------------------------
static inline long cmc_open(const char *path, int flags, mode_t mode) { CMC_RETRY(open(path, flags | O_CLOEXEC, mode)); }
static inline long cmc_openat(int directory, const char *path, int flags, mode_t mode) {
  CMC_RETRY(openat(directory, path, flags | O_CLOEXEC, mode));
}
static inline void cmc_close(int descriptor) { close(descriptor); }
static inline long cmc_replace_descriptor(int from, int onto) { CMC_RETRY(dup3(from, onto, O_CLOEXEC)); }
static inline long cmc_duplicate(int descriptor) { CMC_RETRY(fcntl(descriptor, F_DUPFD_CLOEXEC, 3)); }
static inline long cmc_set_nonblocking(int descriptor) {
  int flags = fcntl(descriptor, F_GETFL);
  if (flags < 0) return -errno;
  return fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}
static inline long cmc_read(int descriptor, void *buffer, size_t count) { CMC_RETRY(read(descriptor, buffer, count)); }
static inline long cmc_write(int descriptor, const void *buffer, size_t count) {
  CMC_RETRY(write(descriptor, buffer, count));
}
static inline long cmc_pread(int descriptor, void *buffer, size_t count, uint64_t offset) {
  CMC_RETRY(pread(descriptor, buffer, count, (off_t)offset));
}
static inline long cmc_pwrite(int descriptor, const void *buffer, size_t count, uint64_t offset) {
  CMC_RETRY(pwrite(descriptor, buffer, count, (off_t)offset));
}
static inline long cmc_pwrite_durable(int descriptor, const void *buffer, size_t count, uint64_t offset) {
  struct iovec part = {(void *)buffer, count};
  CMC_RETRY(pwritev2(descriptor, &part, 1, (off_t)offset, RWF_DSYNC));
}
static inline long cmc_seek(int descriptor, uint64_t offset, int whence) {
  CMC_RETRY(lseek(descriptor, (off_t)offset, whence));
}
static inline long cmc_fsync(int descriptor) { CMC_RETRY(fsync(descriptor)); }
static inline long cmc_fdatasync(int descriptor) { CMC_RETRY(fdatasync(descriptor)); }
static inline long cmc_fallocate(int descriptor, int mode, uint64_t offset, uint64_t length) {
  CMC_RETRY(fallocate(descriptor, mode, (off_t)offset, (off_t)length));
}
static inline long cmc_ftruncate(int descriptor, uint64_t size) { CMC_RETRY(ftruncate(descriptor, (off_t)size)); }
static inline long cmc_drop_cache(int descriptor, uint64_t offset, uint64_t length) {
  return -posix_fadvise(descriptor, (off_t)offset, (off_t)length, POSIX_FADV_DONTNEED);
}
static inline long cmc_flock(int descriptor, int operation) { CMC_RETRY(flock(descriptor, operation)); }
static inline long cmc_fchmod(int descriptor, mode_t mode) { CMC_RETRY(fchmod(descriptor, mode)); }
static inline long cmc_chmod(const char *path, mode_t mode) { CMC_RETRY(chmod(path, mode)); }

struct cmc_file_facts {
  uint64_t size_bytes, allocated_bytes, inode;
  uint32_t mode, owner, major, minor, device_major, device_minor;
  int64_t modified_seconds;
};
static inline void cmc_fill_facts(const struct stat *from, struct cmc_file_facts *to) {
  to->size_bytes = (uint64_t)from->st_size;
  to->allocated_bytes = (uint64_t)from->st_blocks * 512u;
  to->inode = from->st_ino;
  to->mode = from->st_mode;
  to->owner = from->st_uid;
  to->major = major(from->st_dev);
  to->minor = minor(from->st_dev);
  to->device_major = major(from->st_rdev);
  to->device_minor = minor(from->st_rdev);
  to->modified_seconds = from->st_mtime;
}
static inline long cmc_fstat(int descriptor, struct cmc_file_facts *facts) {
  struct stat found;
  if (fstat(descriptor, &found) < 0) return -errno;
  cmc_fill_facts(&found, facts);
  return 0;
}
/// Like stat, or like lstat where `follow` is zero.
static inline long cmc_statat(int directory, const char *path, int follow, struct cmc_file_facts *facts) {
  struct stat found;
  if (fstatat(directory, path, &found, follow ? 0 : AT_SYMLINK_NOFOLLOW) < 0) return -errno;
  cmc_fill_facts(&found, facts);
  return 0;
}
static inline int cmc_is_regular(uint32_t mode) { return S_ISREG(mode); }
static inline int cmc_is_directory(uint32_t mode) { return S_ISDIR(mode); }
static inline int cmc_is_block_device(uint32_t mode) { return S_ISBLK(mode); }
static inline int cmc_is_symlink(uint32_t mode) { return S_ISLNK(mode); }
static inline int cmc_is_socket(uint32_t mode) { return S_ISSOCK(mode); }

/// Alignment that direct I/O on this file needs, in bytes; 0 where the kernel does not tell (before 6.1).
static inline uint32_t cmc_direct_alignment(int descriptor) {
#ifdef STATX_DIOALIGN
  struct statx found;
  memset(&found, 0, sizeof found);
  if (statx(descriptor, "", AT_EMPTY_PATH, STATX_DIOALIGN, &found) < 0) return 0;
  if (!(found.stx_mask & STATX_DIOALIGN)) return 0;
  return found.stx_dio_offset_align > found.stx_dio_mem_align ? found.stx_dio_offset_align : found.stx_dio_mem_align;
#else
  (void)descriptor;
  return 0;
#endif
}
/* Has a network or FUSE file system ask its server for a file's attributes again. */
static inline long cmc_refresh_attributes(const char *path, uint64_t *size) {
  struct statx found;
  memset(&found, 0, sizeof found);
  if (statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC, STATX_SIZE, &found) < 0) return -errno;
  *size = found.stx_size;
  return 0;
}
static inline long cmc_device_size(int descriptor, uint64_t *size) {
  CMC_RETRY(ioctl(descriptor, BLKGETSIZE64, size));
}
static inline long cmc_device_block_bytes(int descriptor, int *bytes) { CMC_RETRY(ioctl(descriptor, BLKSSZGET, bytes)); }
static inline long cmc_device_physical_block_bytes(int descriptor, unsigned *bytes) {
  CMC_RETRY(ioctl(descriptor, BLKPBSZGET, bytes));
}
static inline long cmc_device_read_only(int descriptor, int *flag) { CMC_RETRY(ioctl(descriptor, BLKROGET, flag)); }
static inline long cmc_set_device_read_only(int descriptor, int flag) { CMC_RETRY(ioctl(descriptor, BLKROSET, &flag)); }
static inline long cmc_device_flush_cache(int descriptor) { CMC_RETRY(ioctl(descriptor, BLKFLSBUF, 0)); }
static inline long cmc_device_zero_out(int descriptor, uint64_t offset, uint64_t length) {
  uint64_t range[2] = {offset, length};
  CMC_RETRY(ioctl(descriptor, BLKZEROOUT, range));
}

static inline long cmc_mkdirat(int directory, const char *path, mode_t mode) { CMC_RETRY(mkdirat(directory, path, mode)); }
static inline long cmc_unlinkat(int directory, const char *path, int is_directory) {
  CMC_RETRY(unlinkat(directory, path, is_directory ? AT_REMOVEDIR : 0));
}
static inline long cmc_renameat(int directory, const char *from, const char *to) {
  CMC_RETRY(renameat(directory, from, directory, to));
}
static inline long cmc_rename(const char *from, const char *to) { CMC_RETRY(rename(from, to)); }
static inline long cmc_symlink(const char *target, const char *path) { CMC_RETRY(symlink(target, path)); }
static inline long cmc_readlink(const char *path, char *buffer, size_t count) { CMC_RETRY(readlink(path, buffer, count)); }
static inline long cmc_getdents(int descriptor, void *buffer, size_t count) {
  CMC_RETRY(syscall(SYS_getdents64, descriptor, buffer, count));
}
static inline long cmc_free_bytes(const char *path, uint64_t *free_bytes, uint64_t *total_bytes) {
  struct statvfs found;
  int result;
  do { result = statvfs(path, &found); } while (result < 0 && errno == EINTR);
  if (result < 0) return -errno;
  *free_bytes = (uint64_t)found.f_bavail * found.f_frsize;
  *total_bytes = (uint64_t)found.f_blocks * found.f_frsize;
  return 0;
}
static inline long cmc_mount(const char *source, const char *target, const char *type, unsigned long flags,
                             const char *data) {
  CMC_RETRY(mount(source, target, type, flags, data));
}
static inline long cmc_unmount(const char *target, int lazily) { CMC_RETRY(umount2(target, lazily ? MNT_DETACH : 0)); }

// ---- waiting ---------------------------------------------------------------------------------------------------
/// Polls one or two descriptors (`second` may be -1). Does not repeat on EINTR: the caller knows the deadline.
static inline long cmc_poll(int first, short events, int second, int timeout_milliseconds, short *first_ready,
                            short *second_ready) {
  struct pollfd both[2] = {{first, events, 0}, {second, POLLIN, 0}};
  int count = poll(both, second >= 0 ? 2 : 1, timeout_milliseconds);
  *first_ready = both[0].revents;
  *second_ready = both[1].revents;
  return count < 0 ? -errno : count;
}
static inline long cmc_poll_many(struct pollfd *entries, int count, int timeout_milliseconds) {
  int ready = poll(entries, (nfds_t)count, timeout_milliseconds);
  return ready < 0 ? -errno : ready;
}
static inline long cmc_eventfd(void) { CMC_RETRY(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }
static inline long cmc_pipe(int ends[2]) { CMC_RETRY(pipe2(ends, O_CLOEXEC)); }

static inline int cmc_condition_init(pthread_cond_t *condition) {
  pthread_condattr_t attributes;
  int result = pthread_condattr_init(&attributes);
  if (result != 0) return result;
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  result = pthread_cond_init(condition, &attributes);
  pthread_condattr_destroy(&attributes);
  return result;
}
/// Waits until signalled or the monotonic clock shows `deadline`; returns 0 or ETIMEDOUT.
static inline int cmc_condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t deadline) {
  if (deadline == UINT64_MAX) return pthread_cond_wait(condition, mutex);
  struct timespec until = {(time_t)(deadline / 1000000000ull), (long)(deadline % 1000000000ull)};
  return pthread_cond_timedwait(condition, mutex, &until);
}
static inline int cmc_thread_start(size_t stack_bytes, void *(*body)(void *), void *argument) {
  pthread_attr_t attributes;
  pthread_t thread;
  int result = pthread_attr_init(&attributes);
  if (result != 0) return result;
  pthread_attr_setstacksize(&attributes, stack_bytes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  result = pthread_create(&thread, &attributes, body, argument);
  pthread_attr_destroy(&attributes);
  return result;
}
/// At most 15 bytes of the name are kept by the kernel.
static inline void cmc_thread_name(const char *name) {
  char shortened[16];
  snprintf(shortened, sizeof shortened, "%s", name);
  pthread_setname_np(pthread_self(), shortened);
}

// ---- sockets ---------------------------------------------------------------------------------------------------
static inline size_t cmc_unix_path_limit(void) { return sizeof(((struct sockaddr_un *)0)->sun_path) - 1; }
static inline socklen_t cmc_unix_address(const char *path, struct sockaddr_un *address) {
  memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX;
  snprintf(address->sun_path, sizeof address->sun_path, "%s", path);
  return (socklen_t)sizeof *address;
}
static inline long cmc_socket(int family) { CMC_RETRY(socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); }
static inline long cmc_socket_pair(int ends[2]) {
  CMC_RETRY(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends));
}
static inline long cmc_bind_unix(int descriptor, const char *path) {
  struct sockaddr_un address;
  socklen_t length = cmc_unix_address(path, &address);
  CMC_RETRY(bind(descriptor, (struct sockaddr *)&address, length));
}
static inline long cmc_connect_unix(int descriptor, const char *path) {
  struct sockaddr_un address;
  socklen_t length = cmc_unix_address(path, &address);
  return connect(descriptor, (struct sockaddr *)&address, length) < 0 ? -errno : 0;
}
/// Sends one datagram to the Unix socket at `path`; one that begins with '@' is in the abstract name space.
static inline long cmc_send_datagram(const char *path, const char *text) {
  struct sockaddr_un address;
  socklen_t length = cmc_unix_address(path, &address);
  if (path[0] == '@') {
    address.sun_path[0] = 0;
    length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
  }
  int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (descriptor < 0) return -errno;
  ssize_t sent;
  do sent = sendto(descriptor, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address, length);
  while (sent < 0 && errno == EINTR);
  long result = sent < 0 ? -errno : 0;
  close(descriptor);
  return result;
}
/// `family` is AF_INET or AF_INET6, `bytes` the address in network order (4 or 16 bytes).
static inline socklen_t cmc_internet_address(int family, const void *bytes, uint16_t port, uint32_t scope,
                                             struct sockaddr_storage *address) {
  memset(address, 0, sizeof *address);
  if (family == AF_INET) {
    struct sockaddr_in *four = (struct sockaddr_in *)address;
    four->sin_family = AF_INET;
    four->sin_port = htons(port);
    memcpy(&four->sin_addr, bytes, 4);
    return sizeof *four;
  }
  struct sockaddr_in6 *six = (struct sockaddr_in6 *)address;
  six->sin6_family = AF_INET6;
  six->sin6_port = htons(port);
  six->sin6_scope_id = scope;
  memcpy(&six->sin6_addr, bytes, 16);
  return sizeof *six;
}
static inline long cmc_bind_internet(int descriptor, int family, const void *bytes, uint16_t port, uint32_t scope) {
  struct sockaddr_storage address;
  socklen_t length = cmc_internet_address(family, bytes, port, scope, &address);
  CMC_RETRY(bind(descriptor, (struct sockaddr *)&address, length));
}
static inline long cmc_connect_internet(int descriptor, int family, const void *bytes, uint16_t port, uint32_t scope) {
  struct sockaddr_storage address;
  socklen_t length = cmc_internet_address(family, bytes, port, scope, &address);
  return connect(descriptor, (struct sockaddr *)&address, length) < 0 ? -errno : 0;
}
static inline long cmc_listen(int descriptor, int backlog) { CMC_RETRY(listen(descriptor, backlog)); }
static inline long cmc_accept(int descriptor) {
  CMC_RETRY(accept4(descriptor, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
}
static inline int cmc_socket_error(int descriptor) {
  int number = 0;
  socklen_t length = sizeof number;
  return getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &number, &length) < 0 ? errno : number;
}
static inline long cmc_set_option(int descriptor, int level, int name, int value) {
  return setsockopt(descriptor, level, name, &value, sizeof value) < 0 ? -errno : 0;
}
static inline long cmc_set_no_delay(int descriptor) { return cmc_set_option(descriptor, IPPROTO_TCP, TCP_NODELAY, 1); }
/// On: partial segments wait for more bytes (200 ms at most). Off: they leave.
static inline long cmc_set_cork(int descriptor, int on) { return cmc_set_option(descriptor, IPPROTO_TCP, TCP_CORK, on); }
/// poll says readable from so many bytes on.
static inline long cmc_set_low_water(int descriptor, int bytes) {
  return cmc_set_option(descriptor, SOL_SOCKET, SO_RCVLOWAT, bytes);
}
static inline long cmc_set_reuse_address(int descriptor) {
  return cmc_set_option(descriptor, SOL_SOCKET, SO_REUSEADDR, 1);
}
static inline long cmc_set_v6_only(int descriptor, int on) {
  return cmc_set_option(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, on);
}
static inline long cmc_set_user_timeout(int descriptor, int milliseconds) {
  return cmc_set_option(descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT, milliseconds);
}
static inline long cmc_set_keepalive(int descriptor, int idle_seconds, int interval_seconds, int probes) {
  long result = cmc_set_option(descriptor, SOL_SOCKET, SO_KEEPALIVE, 1);
  if (result == 0) result = cmc_set_option(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, idle_seconds);
  if (result == 0) result = cmc_set_option(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, interval_seconds);
  if (result == 0) result = cmc_set_option(descriptor, IPPROTO_TCP, TCP_KEEPCNT, probes);
  return result;
}
/// Writes family, port (host order) and the 4 or 16 address bytes of this end (`peer` 0) or the other (1).
static inline long cmc_socket_name(int descriptor, int peer, int *family, uint16_t *port, uint32_t *scope,
                                   uint8_t bytes[16]) {
  struct sockaddr_storage address;
  socklen_t length = sizeof address;
  memset(&address, 0, sizeof address);
  int result = peer ? getpeername(descriptor, (struct sockaddr *)&address, &length)
                    : getsockname(descriptor, (struct sockaddr *)&address, &length);
  if (result < 0) return -errno;
  *family = address.ss_family;
  *port = 0;
  *scope = 0;
  if (address.ss_family == AF_INET) {
    *port = ntohs(((struct sockaddr_in *)&address)->sin_port);
    memcpy(bytes, &((struct sockaddr_in *)&address)->sin_addr, 4);
  } else if (address.ss_family == AF_INET6) {
    *port = ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    *scope = ((struct sockaddr_in6 *)&address)->sin6_scope_id;
    memcpy(bytes, &((struct sockaddr_in6 *)&address)->sin6_addr, 16);
  }
  return 0;
}
static inline long cmc_peer_credentials(int descriptor, int32_t *pid, uint32_t *user, uint32_t *group) {
  struct ucred credentials;
  socklen_t length = sizeof credentials;
  if (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0) return -errno;
  *pid = credentials.pid;
  *user = credentials.uid;
  *group = credentials.gid;
  return 0;
}
static inline long cmc_receive(int descriptor, void *buffer, size_t count) { CMC_RETRY(recv(descriptor, buffer, count, 0)); }
/* -EAGAIN where nothing came within `looks` tries. */
static inline long cmc_receive_soon(int descriptor, void *buffer, size_t count, int looks) {
  while (looks-- > 0) {
    ssize_t got = recv(descriptor, buffer, count, MSG_DONTWAIT);
    if (got >= 0) return got;
    if (errno != EAGAIN && errno != EINTR) return -errno;
  }
  return -EAGAIN;
}
static inline long cmc_send(int descriptor, const void *buffer, size_t count) {
  CMC_RETRY(send(descriptor, buffer, count, MSG_NOSIGNAL));
}
static inline long cmc_send_both(int descriptor, const void *first, size_t first_count, const void *second,
                                 size_t second_count) {
  struct iovec parts[2] = {{(void *)first, first_count}, {(void *)second, second_count}};
  struct msghdr message;
  memset(&message, 0, sizeof message);
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  CMC_RETRY(sendmsg(descriptor, &message, MSG_NOSIGNAL));
}
static inline long cmc_shutdown(int descriptor) { CMC_RETRY(shutdown(descriptor, SHUT_RDWR)); }
static inline long cmc_shutdown_writing(int descriptor) { CMC_RETRY(shutdown(descriptor, SHUT_WR)); }

// ---- processes -------------------------------------------------------------------------------------------------
struct cmc_spawn_request {
  const char *executable;
  char *const *arguments;
  char *const *environment;
  const char *working_directory; // or NULL
  int input, output, error_output;
  int new_session;  // else only a process group of its own
  int death_signal; // sent when the thread that spawned ends; 0 for none
};

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif
static inline long cmc_set_io_flusher(int is_one) { CMC_RETRY(prctl(PR_SET_IO_FLUSHER, is_one, 0, 0, 0)); }

/// What a process that serves the page cache has for itself is nothing for its children: an application that a hook starts
/// would never be killed for lack of memory, nor wait for its own writes. A failure leaves the child as it was.
static inline void cmc_give_up_protection(void) {
  (void)cmc_set_io_flusher(0);
  int score = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
  if (score < 0) return;
  char sign = 0;
  if (read(score, &sign, 1) == 1 && sign == '-' && write(score, "0", 1) < 0) errno = 0;
  close(score);
}

/// Between vfork and exec: only async-signal-safe calls. Reports errno through the pipe and never returns.
__attribute__((noreturn)) static inline void cmc_become(const struct cmc_spawn_request *request, int report,
                                                        pid_t parent, const sigset_t *mask) {
  int number = 0;
  for (int signal_number = 1; signal_number < NSIG; signal_number++) {
    struct sigaction action;
    if (sigaction(signal_number, NULL, &action) == 0 && action.sa_handler != SIG_DFL) {
      memset(&action, 0, sizeof action);
      action.sa_handler = SIG_DFL;
      sigaction(signal_number, &action, NULL);
    }
  }
  if (request->new_session ? setsid() < 0 : setpgid(0, 0) < 0) goto failed;
  if (request->death_signal != 0) {
    if (prctl(PR_SET_PDEATHSIG, request->death_signal, 0, 0, 0) < 0) goto failed;
    if (getppid() != parent) _exit(127);
  }
  // The three may be any numbers above 2 (the caller saw to that), so that no dup2 clobbers another.
  if (dup2(request->input, 0) < 0 || dup2(request->output, 1) < 0 || dup2(request->error_output, 2) < 0) goto failed;
#ifdef SYS_close_range
  syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */);
#endif
  if (request->working_directory && chdir(request->working_directory) < 0) goto failed;
  cmc_give_up_protection();
  sigprocmask(SIG_SETMASK, mask, NULL);
  execve(request->executable, request->arguments, request->environment);
failed:
  number = errno;
  if (write(report, &number, sizeof number) < 0) _exit(126);
  _exit(127);
}

/// Starts a child; answers its pid or the negated errno of the step that failed.
static inline long cmc_spawn(const struct cmc_spawn_request *request) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return -errno;
  sigset_t all, before, none;
  sigfillset(&all);
  sigemptyset(&none);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  pid_t parent = getpid();
  pid_t child = vfork();
  if (child == 0) cmc_become(request, ends[1], parent, &none);
  int fork_error = errno;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  close(ends[1]);
  if (child < 0) {
    close(ends[0]);
    return -fork_error;
  }
  int number = 0;
  ssize_t count;
  do { count = read(ends[0], &number, sizeof number); } while (count < 0 && errno == EINTR);
  close(ends[0]);
  if (count == (ssize_t)sizeof number) {
    int status;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    return -number;
  }
  return child;
}
/// Waits until the child ended, but leaves it to be reaped, so that its pid stays its own.
static inline long cmc_wait_for_end(pid_t child) {
  siginfo_t information;
  CMC_RETRY(waitid(P_PID, (id_t)child, &information, WEXITED | WNOWAIT));
}
/// Reaps a child that ended. `exited` is 1 with an exit status in `code`, or 0 with a signal's number in it.
static inline long cmc_reap(pid_t child, int *exited, int *code) {
  int status;
  pid_t result;
  do { result = waitpid(child, &status, 0); } while (result < 0 && errno == EINTR);
  if (result < 0) return -errno;
  *exited = WIFEXITED(status) ? 1 : 0;
  *code = WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status);
  return 0;
}
static inline long cmc_kill(pid_t process, int signal_number) { return kill(process, signal_number) < 0 ? -errno : 0; }
static inline long cmc_install_handler(int signal_number, void (*handler)(int)) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  return sigaction(signal_number, &action, NULL) < 0 ? -errno : 0;
}
/// Whether the signal is ignored now, as nohup(1) leaves SIGHUP to its child.
static inline int cmc_signal_is_ignored(int signal_number) {
  struct sigaction action;
  return sigaction(signal_number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}
static inline long cmc_default_handler(int signal_number) { return cmc_install_handler(signal_number, SIG_DFL); }
static inline long cmc_ignore_signal(int signal_number) { return cmc_install_handler(signal_number, SIG_IGN); }

// ---- the process itself ----------------------------------------------------------------------------------------
/// Ends the process without running anything else of it.
static inline void cmc_end_now(int status) { _exit(status); }
static inline long cmc_lock_memory(void) { CMC_RETRY(mlockall(MCL_CURRENT | MCL_FUTURE)); }
static inline long cmc_host_name(char *buffer, size_t count) { CMC_RETRY(gethostname(buffer, count)); }

/// Whether the processor has AES instructions.
#if defined(__x86_64__)
#include <cpuid.h>
static inline int cmc_cpu_has_aes(void) {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & (1u << 25)) != 0;
}
#elif defined(__aarch64__)
#include <sys/auxv.h>
static inline int cmc_cpu_has_aes(void) { return (getauxval(AT_HWCAP) & (1ul << 3)) != 0; }
#else
static inline int cmc_cpu_has_aes(void) { return 0; }
#endif

// ---- loop devices ----------------------------------------------------------------------------------------------
static inline long cmc_loop_free_number(int control) { CMC_RETRY(ioctl(control, LOOP_CTL_GET_FREE)); }
/// The device goes away with its last close, until cmc_loop_keep.
static inline long cmc_loop_configure(int loop, int backing, uint32_t block_bytes, int direct, int read_only,
                                      const char *name) {
  struct loop_config configuration;
  memset(&configuration, 0, sizeof configuration);
  configuration.fd = (uint32_t)backing;
  configuration.block_size = block_bytes;
  configuration.info.lo_flags =
      LO_FLAGS_AUTOCLEAR | (direct ? LO_FLAGS_DIRECT_IO : 0) | (read_only ? LO_FLAGS_READ_ONLY : 0);
  snprintf((char *)configuration.info.lo_file_name, LO_NAME_SIZE, "%s", name);
  CMC_RETRY(ioctl(loop, LOOP_CONFIGURE, &configuration));
}
static inline long cmc_loop_keep(int loop) {
  struct loop_info64 information;
  memset(&information, 0, sizeof information);
  if (ioctl(loop, LOOP_GET_STATUS64, &information) < 0) return -errno;
  information.lo_flags &= ~(uint32_t)LO_FLAGS_AUTOCLEAR;
  CMC_RETRY(ioctl(loop, LOOP_SET_STATUS64, &information));
}
static inline long cmc_loop_clear(int loop) { CMC_RETRY(ioctl(loop, LOOP_CLR_FD, 0)); }
static inline long cmc_loop_refresh_size(int loop) { CMC_RETRY(ioctl(loop, LOOP_SET_CAPACITY, 0)); }
static inline long cmc_loop_status(int loop, uint32_t *flags, uint64_t *backing_inode) {
  struct loop_info64 information;
  memset(&information, 0, sizeof information);
  if (ioctl(loop, LOOP_GET_STATUS64, &information) < 0) return -errno;
  *flags = information.lo_flags;
  *backing_inode = information.lo_inode;
  return 0;
}
static inline int cmc_loop_flags_direct(uint32_t flags) { return (flags & LO_FLAGS_DIRECT_IO) != 0; }

#endif
