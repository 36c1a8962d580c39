internal import CYAML

/// The tokens of a document with their places, for what must keep the text as it was written: comments, quotes, order.
struct YAMLScan {
  enum Kind {
    case blockMappingStart
    case blockSequenceStart
    case blockEnd
    case blockEntry
    case key
    case value
    case flowStart
    case flowEnd
    case flowEntry
    /// An anchor or a tag, before the value that it belongs to.
    case property
    case alias
    case scalar
    /// `|` or `>`: its text are the lines below.
    case blockScalar
    /// A document's marker or directive.
    case marker
  }

  /// Lines and columns count from 0, columns in Unicode scalars. The end is behind the last scalar.
  struct Token {
    var kind: Kind
    var line: Int
    var column: Int
    var endLine: Int
    var endColumn: Int
  }

  /// Nil where the text can't be scanned.
  static func tokens(of bytes: [UInt8]) -> [Token]? {
    var parser = yaml_parser_t()
    guard yaml_parser_initialize(&parser) == 1 else { return nil }
    defer { yaml_parser_delete(&parser) }
    return bytes.withUnsafeBufferPointer { buffer in
      yaml_parser_set_input_string(&parser, buffer.baseAddress, buffer.count)
      var result: [Token] = []
      while true {
        var token = yaml_token_t()
        guard yaml_parser_scan(&parser, &token) == 1 else { return nil }
        defer { yaml_token_delete(&token) }
        if token.type == YAML_STREAM_END_TOKEN { return result }
        guard let kind = kind(token) else { continue }
        result.append(
          Token(
            kind: kind, line: token.start_mark.line, column: token.start_mark.column, endLine: token.end_mark.line,
            endColumn: token.end_mark.column))
      }
    }
  }

  private static func kind(_ token: yaml_token_t) -> Kind? {
    switch token.type {
    case YAML_BLOCK_MAPPING_START_TOKEN: .blockMappingStart
    case YAML_BLOCK_SEQUENCE_START_TOKEN: .blockSequenceStart
    case YAML_BLOCK_END_TOKEN: .blockEnd
    case YAML_BLOCK_ENTRY_TOKEN: .blockEntry
    case YAML_KEY_TOKEN: .key
    case YAML_VALUE_TOKEN: .value
    case YAML_FLOW_MAPPING_START_TOKEN, YAML_FLOW_SEQUENCE_START_TOKEN: .flowStart
    case YAML_FLOW_MAPPING_END_TOKEN, YAML_FLOW_SEQUENCE_END_TOKEN: .flowEnd
    case YAML_FLOW_ENTRY_TOKEN: .flowEntry
    case YAML_ANCHOR_TOKEN, YAML_TAG_TOKEN: .property
    case YAML_ALIAS_TOKEN: .alias
    case YAML_SCALAR_TOKEN:
      token.data.scalar.style == YAML_LITERAL_SCALAR_STYLE || token.data.scalar.style == YAML_FOLDED_SCALAR_STYLE
        ? .blockScalar : .scalar
    case YAML_DOCUMENT_START_TOKEN, YAML_DOCUMENT_END_TOKEN, YAML_VERSION_DIRECTIVE_TOKEN, YAML_TAG_DIRECTIVE_TOKEN:
      .marker
    default: nil
    }
  }
}
