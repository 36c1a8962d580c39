/// The last thing that SELinux denied to the agent, as the kernel's log or auditd has it. Pure.
///
///     avc:  denied  { execute } for  pid=9 comm="(cmcagent)" name="cmcagent-…" … scontext=u:r:init_t:s0 tcontext=… tclass=file
struct SELinuxDenial: Equatable {
  /// "execute", "name_bind".
  let permissions: String
  /// The domain that was denied it: "init_t".
  let domain: String
  /// What it was denied on: "a file of type var_lib_t".
  let object: String

  /// Nil where the text has none that can be read.
  init?(in text: String) {
    guard
      let line = text.split(whereSeparator: \.isNewline).last(where: { $0.contains("avc:") && $0.contains("denied") }),
      let open = line.firstIndex(of: "{"), let close = line[open...].firstIndex(of: "}"),
      let source = Self.field("scontext=", of: line), let target = Self.field("tcontext=", of: line),
      let kind = Self.field("tclass=", of: line)
    else { return nil }
    permissions = String(line[line.index(after: open)..<close]).trimmed
    domain = Self.type(of: source)
    object = "a \(kind) of type \(Self.type(of: target))"
  }

  var advice: String {
    "SELinux denied \(permissions) on \(object) to \(domain). Look at it (ausearch -m avc -ts recent); then allow it by a"
      + " policy module (ausearch -m avc -ts recent | audit2allow -M cmcagent && semodule -i cmcagent.pp), and apply again"
  }

  private static func field(_ name: String, of line: Substring) -> Substring? {
    line.split(separator: " ").first { $0.hasPrefix(name) }?.dropFirst(name.count)
  }

  /// The third part of a context.
  private static func type(of context: Substring) -> String {
    let parts = context.split(separator: ":")
    return parts.count > 2 ? String(parts[2]) : String(context)
  }
}
