import CLinux
import Glibc

/// What a program arranges for itself at its start.
package enum ProcessSetup {
  private static let ignoring: Int = cmc_ignore_signal(SIGPIPE)

  /// A broken pipe becomes an error of the write that hit it, in place of a signal that ends the process.
  package static func ignoreBrokenPipes() { _ = ignoring }

  /// Memory allocation by this thread's process never waits for I/O that the process itself must do (PR_SET_IO_FLUSHER,
  /// Linux 5.6, needs CAP_SYS_RESOURCE). Threads that it starts inherit it, children don't.
  package static func becomeIOFlusher() throws(SystemError) {
    _ = try check(cmc_set_io_flusher(1), "be marked as doing I/O for the page cache (PR_SET_IO_FLUSHER)")
  }

  /// Keeps all memory, now and later, out of swap.
  package static func lockMemory() throws(SystemError) { _ = try check(cmc_lock_memory(), "lock memory (mlockall)") }

  /// Keeps what was touched of memory, now and later, out of swap, and takes nothing that wasn't.
  package static func lockTouchedMemory() throws(SystemError) {
    _ = try check(cmc_lock_touched_memory(), "lock memory (mlockall)")
  }

  /// -1000 (never killed for lack of memory) ... 1000 (first to go). Children don't inherit what is below 0.
  package static func setOutOfMemoryScore(_ score: Int) throws(SystemError) {
    try Files.writeKernelFile("/proc/self/oom_score_adj", "\(score)")
  }

  /// Ends the process here and now: nothing is flushed, no handler runs, no other thread is waited for.
  package static func endNow(status: Int32) { cmc_end_now(status) }

  package static var effectiveUserID: UInt32 { geteuid() }
  package static var processID: Int32 { getpid() }
  /// Another one's as soon as the parent is gone.
  package static var parentProcessID: Int32 { getppid() }

  package static func hostName() throws(SystemError) -> String {
    let (result, name) = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
      buffer.initialize(repeating: 0)
      let result = cmc_host_name(buffer.baseAddress, buffer.count - 1)
      return (result, buffer.baseAddress.map { String(cString: $0) } ?? "")
    }
    _ = try check(result, "read the host's name")
    return name
  }

  /// Changes with every boot of the kernel.
  package static func bootID() throws(SystemError) -> String {
    String(try Files.readText("/proc/sys/kernel/random/boot_id").prefix { !$0.isNewline })
  }

  /// The file that this process runs, without links.
  package static func executablePath() throws(SystemError) -> String { try Files.linkTarget("/proc/self/exe") }

  /// Whether the processor has AES instructions, so that AES-GCM is the fastest cipher.
  package static var hasAESInstructions: Bool { cmc_cpu_has_aes() != 0 }

  /// Tells systemd, where it started this process and waits for the word (`Type=notify`), that it is ready.
  package static func tellReady() throws(SystemError) {
    guard let path = environment("NOTIFY_SOCKET"), !path.isEmpty else { return }
    let operation = "tell the service manager at \(path)"
    try UnixSocket.checkPath(path, operation)
    _ = try check(cmc_send_datagram(path, "READY=1"), operation)
  }

  package static func environment(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }
}
