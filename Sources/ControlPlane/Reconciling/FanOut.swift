/// Does one thing with many, `parallelism` at once: one that is slow holds up no other. `report` is called as each ends,
/// in whatever order that is.
package func fanOut<Item: Sendable, Answer: Sendable>(
  _ items: [Item], parallelism: Int, _ body: @escaping @Sendable (Item) async -> Answer,
  report: (Item, Answer) -> Void
) async {
  await withTaskGroup(of: (Item, Answer).self) { group in
    var waiting = items[...]
    func start() {
      guard let item = waiting.popFirst() else { return }
      group.addTask { (item, await body(item)) }
    }
    for _ in 0..<max(1, parallelism) { start() }
    for await (item, answer) in group {
      report(item, answer)
      start()
    }
  }
}
