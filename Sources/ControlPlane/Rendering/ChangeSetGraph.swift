import BlockModel
package import Planning

/// Steps as a graph for Graphviz: what follows what, dashed where it waits, octagons for what is one-way.
package func renderDot(_ changes: ChangeSet) -> String {
  func quoted(_ text: String) -> String {
    "\"" + safe(text).replacing("\\", with: "\\\\").replacing("\"", with: "\\\"") + "\""
  }
  let graph = StepGraph(changes)
  var text = "digraph \(quoted(changes.planName)) {\n  rankdir=LR;\n  node [shape=box];\n"
  for node in graph.nodes {
    let shape = node.isOneWay ? ", shape=octagon" : ""
    let style = node.isGate ? ", shape=note" : node.isWaiting ? ", style=dashed" : ""
    text += "  n\(node.number) [label=\(quoted(node.label))\(shape)\(style)];\n"
  }
  for edge in graph.edges { text += "  n\(edge.from) -> n\(edge.to);\n" }
  return text + "}\n"
}

/// The same for Mermaid, as GitHub and GitLab draw it in a comment.
package func renderMermaid(_ changes: ChangeSet) -> String {
  func quoted(_ text: String) -> String {
    // Mermaid has entities of its own; quotes and hashes would end or start one.
    "\"" + safe(text).replacing("#", with: "#35;").replacing("\"", with: "#quot;").replacing("<", with: "#lt;") + "\""
  }
  let graph = StepGraph(changes)
  var text = "flowchart LR\n"
  for node in graph.nodes {
    let box = node.isGate ? ("{{", "}}") : node.isOneWay ? ("[[", "]]") : ("[", "]")
    text += "  n\(node.number)\(box.0)\(quoted(node.label))\(box.1)\n"
  }
  for edge in graph.edges { text += "  n\(edge.from) \(edge.isWaiting ? "-.->" : "-->") n\(edge.to)\n" }
  return text
}

/// One chain a migration, gates in it; deployments and attachments that several share are one node.
private struct StepGraph {
  struct Node {
    var number: Int
    var label: String
    var isOneWay = false
    var isWaiting = false
    var isGate = false
  }
  struct Edge: Hashable {
    var from: Int
    var to: Int
    var isWaiting: Bool
  }
  var nodes: [Node] = []
  var edges: [Edge] = []
  private var known: Set<Edge> = []

  init(_ changes: ChangeSet) {
    var shared: [String: Int] = [:]
    for entry in changes.migrations {
      var last: Int?
      var gate: Int?
      for change in entry.changes {
        if let index = change.waitsFor, index != gate, entry.waiting.indices.contains(index) {
          gate = index
          let number = add("\(entry.migration): waits: \(waitingText(entry.waiting[index]))", change, isGate: true)
          link(last, number, isWaiting: true)
          last = number
        }
        let number: Int
        switch change.action {
        case .deployAgent, .removeAgent, .checkWave, .checkGroup:
          number =
            shared["\(change.action.kind) \(change.action.subject)"] ?? add(change.summary, change, isGate: false)
          shared["\(change.action.kind) \(change.action.subject)"] = number
        default: number = add("\(entry.migration): \(change.summary)", change, isGate: false)
        }
        link(last, number, isWaiting: change.waitsFor != nil)
        last = number
      }
    }
  }

  private mutating func add(_ label: String, _ change: Change, isGate: Bool) -> Int {
    nodes.append(
      Node(
        number: nodes.count, label: label, isOneWay: !isGate && change.reversibility == .oneWay,
        isWaiting: change.waitsFor != nil, isGate: isGate))
    return nodes.count - 1
  }

  private mutating func link(_ from: Int?, _ to: Int, isWaiting: Bool) {
    guard let from, from != to else { return }
    let edge = Edge(from: from, to: to, isWaiting: isWaiting)
    if known.insert(edge).inserted { edges.append(edge) }
  }
}
