import Glibc

/// Error numbers for callers that may not import the C library.
package enum Errno {
  package static let notFound = ENOENT
  package static let exists = EEXIST
  package static let again = EAGAIN
  package static let busy = EBUSY
  package static let invalid = EINVAL
  package static let denied = EACCES
  package static let noSpace = ENOSPC
  package static let readOnly = EROFS
  package static let inputOutput = EIO
  package static let timedOut = ETIMEDOUT
  package static let cancelled = ECANCELED
  package static let shutDown = ESHUTDOWN
  package static let refused = ECONNREFUSED
  package static let unsupported = EOPNOTSUPP
}
