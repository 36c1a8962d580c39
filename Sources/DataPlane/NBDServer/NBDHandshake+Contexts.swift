/// LIST and SET_META_CONTEXT (document section "Metadata querying").
extension NBDHandshake {
  private struct Query {
    var export: NBDExportDescription
    var queries: [String]
  }
  private enum Parsed {
    case query(Query)
    case refused([UInt8])
  }

  private static func parse(
    _ option: NBDWire.Option, _ data: [UInt8], _ exports: [NBDExportDescription]
  ) -> Parsed {
    var cursor = NBDCursor(data[...])
    guard let name = cursor.text(), let count = cursor.number(UInt32.self) else {
      return .refused(NBDOptionReply.invalid(option.rawValue, "export name or number of queries is malformed"))
    }
    guard count <= NBDLimits.maxMetaQueries else {
      return .refused(NBDOptionReply.error(option.rawValue, NBDWire.OptionReply.errorTooBig, "too many queries"))
    }
    var queries: [String] = []
    for _ in 0..<count {
      guard let query = cursor.text() else {
        return .refused(NBDOptionReply.invalid(option.rawValue, "a query is malformed"))
      }
      queries.append(query)
    }
    guard cursor.remaining == 0 else {
      return .refused(NBDOptionReply.invalid(option.rawValue, "data follows the last query"))
    }
    guard let export = find(name, exports) else {
      return .refused(NBDOptionReply.error(option.rawValue, NBDWire.OptionReply.errorUnknown, "no export \(name)"))
    }
    return .query(Query(export: export, queries: queries))
  }

  mutating func listContexts(_ data: [UInt8], _ exports: [NBDExportDescription]) -> [UInt8] {
    let option = NBDWire.Option.listMetaContext
    guard structuredReplies else {
      return NBDOptionReply.invalid(option.rawValue, "negotiate structured replies first")
    }
    switch Self.parse(option, data, exports) {
    case .refused(let reply): return reply
    case .query(let query):
      let listed = query.export.contexts.filter { context in
        // "base:" and "cmc:" alone are wildcards.
        query.queries.isEmpty
          || query.queries.contains { $0 == context.name || ($0.hasSuffix(":") && context.name.hasPrefix($0)) }
      }
      // In a list the id is reserved.
      return listed.flatMap { NBDOptionReply.metaContext(option, id: 0, name: $0.name) }
        + NBDOptionReply.acknowledge(option.rawValue)
    }
  }

  mutating func setContexts(_ data: [UInt8], _ exports: [NBDExportDescription]) -> [UInt8] {
    let option = NBDWire.Option.setMetaContext
    // Whatever comes of it, the earlier selection is gone.
    selection = nil
    guard structuredReplies else {
      return NBDOptionReply.invalid(option.rawValue, "negotiate structured replies first")
    }
    switch Self.parse(option, data, exports) {
    case .refused(let reply): return reply
    case .query(let query):
      let selected = query.export.contexts.filter { query.queries.contains($0.name) }
      selection = (query.export.name, selected)
      return selected.flatMap { NBDOptionReply.metaContext(option, id: $0.rawValue, name: $0.name) }
        + NBDOptionReply.acknowledge(option.rawValue)
    }
  }
}
