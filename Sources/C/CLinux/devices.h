// Device-mapper's control interface (linux/dm-ioctl.h). Results as in shim.h: or the negated errno.
#ifndef CMC_CLINUX_DEVICES_H
#define CMC_CLINUX_DEVICES_H
#include "shim.h"
#include <linux/dm-ioctl.h>

struct cmc_dm_facts {
  uint32_t flags, open_count, target_count, major, minor;
  char name[DM_NAME_LEN], uuid[DM_UUID_LEN];
};

struct cmc_dm_target {
  uint64_t start, length; // sectors of 512 bytes
  char kind[DM_MAX_TYPE_NAME];
  const char *parameters; // in the buffer
};

static const uint32_t CMC_DM_DEV_CREATE = DM_DEV_CREATE_CMD;
static const uint32_t CMC_DM_DEV_REMOVE = DM_DEV_REMOVE_CMD;
static const uint32_t CMC_DM_DEV_SUSPEND = DM_DEV_SUSPEND_CMD;
static const uint32_t CMC_DM_DEV_STATUS = DM_DEV_STATUS_CMD;
static const uint32_t CMC_DM_TABLE_LOAD = DM_TABLE_LOAD_CMD;
static const uint32_t CMC_DM_TABLE_CLEAR = DM_TABLE_CLEAR_CMD;
static const uint32_t CMC_DM_TABLE_STATUS = DM_TABLE_STATUS_CMD;
static const uint32_t CMC_DM_STATUS_TABLE = DM_STATUS_TABLE_FLAG;
static const uint32_t CMC_DM_SKIP_LOCKFS = DM_SKIP_LOCKFS_FLAG;
static const uint32_t CMC_DM_BUFFER_FULL = DM_BUFFER_FULL_FLAG;
static const uint32_t CMC_DM_DEFERRED_REMOVE = DM_DEFERRED_REMOVE;
// What libdevmapper passes in the upper half of an event number: udev's rules are told to leave the device alone
// (subsystem, disk and other rules, and no fallback).
static const uint32_t CMC_DM_LEAVE_ALONE = (0x0002u | 0x0004u | 0x0008u | 0x0020u) << 16;

static inline void cmc_dm_prepare(void *buffer, size_t count, const char *name, const char *uuid, uint32_t flags,
                                  uint32_t event_number) {
  struct dm_ioctl *call = (struct dm_ioctl *)buffer;
  memset(buffer, 0, count);
  call->version[0] = DM_VERSION_MAJOR;
  call->data_size = (uint32_t)count;
  call->data_start = (uint32_t)((sizeof *call + 7) & ~7ul);
  call->flags = flags;
  call->event_nr = event_number;
  snprintf(call->name, sizeof call->name, "%s", name);
  snprintf(call->uuid, sizeof call->uuid, "%s", uuid);
}

/// Appends one line of a table. `used` begins at 0. -ENOSPC where the buffer is too short.
static inline long cmc_dm_add_target(void *buffer, size_t count, size_t *used, uint64_t start, uint64_t length,
                                     const char *kind, const char *parameters) {
  struct dm_ioctl *call = (struct dm_ioctl *)buffer;
  size_t size = (sizeof(struct dm_target_spec) + strlen(parameters) + 1 + 7) & ~(size_t)7;
  if (call->data_start + *used + size > count) return -ENOSPC;
  struct dm_target_spec *target = (struct dm_target_spec *)((char *)buffer + call->data_start + *used);
  target->sector_start = start;
  target->length = length;
  target->next = (uint32_t)size;
  snprintf(target->target_type, sizeof target->target_type, "%s", kind);
  strcpy((char *)(target + 1), parameters);
  *used += size;
  call->target_count += 1;
  return 0;
}

static inline long cmc_dm_call(int control, uint32_t command, void *buffer, struct cmc_dm_facts *facts) {
  struct dm_ioctl *call = (struct dm_ioctl *)buffer;
  int result;
  do { result = ioctl(control, _IOWR(DM_IOCTL, command, struct dm_ioctl), call); } while (result < 0 && errno == EINTR);
  if (result < 0) return -errno;
  facts->flags = call->flags;
  facts->open_count = call->open_count < 0 ? 0 : (uint32_t)call->open_count;
  facts->target_count = call->target_count;
  facts->major = major(call->dev);
  facts->minor = minor(call->dev);
  memcpy(facts->name, call->name, sizeof facts->name);
  memcpy(facts->uuid, call->uuid, sizeof facts->uuid);
  return 0;
}

/// The line of a status answer at `offset`, which moves on to the next. -EPROTO where it doesn't fit the buffer.
static inline long cmc_dm_next_target(const void *buffer, size_t count, size_t *offset, struct cmc_dm_target *target) {
  const struct dm_ioctl *call = (const struct dm_ioctl *)buffer;
  size_t place = call->data_start + *offset;
  if (place + sizeof(struct dm_target_spec) >= count) return -EPROTO;
  const struct dm_target_spec *found = (const struct dm_target_spec *)((const char *)buffer + place);
  const char *parameters = (const char *)(found + 1);
  if (strnlen(parameters, (size_t)((const char *)buffer + count - parameters)) == (size_t)((const char *)buffer + count - parameters))
    return -EPROTO;
  target->start = found->sector_start;
  target->length = found->length;
  memcpy(target->kind, found->target_type, sizeof target->kind);
  target->kind[sizeof target->kind - 1] = 0;
  target->parameters = parameters;
  *offset = found->next; // from the first line, in answers
  return 0;
}

// ---- generic netlink -------------------------------------------------------------------------------------------
#include <linux/netlink.h>
static inline long cmc_netlink_socket(int timeout_seconds) {
  int number = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
  if (number < 0) return -errno;
  struct timeval timeout = {timeout_seconds, 0};
  struct sockaddr_nl address = {.nl_family = AF_NETLINK};
  if (setsockopt(number, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) < 0 ||
      connect(number, (struct sockaddr *)&address, sizeof address) < 0) {
    int problem = errno;
    close(number);
    return -problem;
  }
  return number;
}
/// All memory, now and later, stays resident once it was touched.
static inline long cmc_lock_touched_memory(void) {
  CMC_RETRY(mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT));
}
#endif
