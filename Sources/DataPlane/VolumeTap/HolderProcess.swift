/// The holder: what `cmcagent holder` runs.
package enum HolderProcess {
  /// Runs until it is told to detach. Returns the exit code: 0 detached, 1 failed (the log in its directory says why),
  /// 2 bad arguments. `arguments` come after "holder": `--directory DIR --socket PATH --export NAME
  /// [--logical-block BYTES]`.
  package static func run(arguments: [String]) -> Int32 { 2 }
}
