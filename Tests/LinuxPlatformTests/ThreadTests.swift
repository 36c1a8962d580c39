import BlockModel
import LinuxPlatform
import Testing

@Suite struct ThreadTests {
  @Test func aJoinedThreadHasDoneItsWork() throws {
    let isDone = Monitor(false)
    let thread = try PlatformThread.start(name: "a name longer than the kernel keeps") { isDone.withLock { $0 = true } }
    #expect(thread.join(until: soon))
    #expect(isDone.withLock { $0 })
  }

  @Test func aMonitorWakesWhoWaits() throws {
    let turns = Monitor(0)
    let thread = try PlatformThread.start(name: "other") {
      for turn in stride(from: 1, to: 100, by: 2) {
        _ = turns.wait { $0 == turn ? true : nil }
        turns.change { $0 += 1 }
      }
    }
    for turn in stride(from: 0, to: 100, by: 2) {
      #expect(turns.wait(until: soon) { $0 == turn ? true : nil } == true)
      turns.change { $0 += 1 }
    }
    #expect(thread.join(until: soon))
  }

  @Test func aWaitEndsAtItsDeadline() {
    let never = Monitor(false)
    #expect(never.wait(until: MonotonicTime.now.adding(seconds: 0.01)) { $0 ? true : nil } == nil)
  }

  @Test func aQueueKeepsOrderAndItsLimit() throws {
    let queue = BlockingQueue<Int>(capacity: 3)
    let producer = try PlatformThread.start(name: "producer") {
      for number in 0..<1000 where !queue.push(number) { return }
      queue.close()
    }
    var received: [Int] = []
    while let number = queue.pop(until: soon) {
      #expect(queue.count <= 3)
      received.append(number)
    }
    #expect(received == Array(0..<1000))
    #expect(producer.join(until: soon))
    #expect(!queue.push(1) && !queue.tryPush(1))
  }

  @Test func aCancelledQueueWakesBothSides() throws {
    let full = BlockingQueue<Int>(capacity: 1)
    #expect(full.tryPush(1) && !full.tryPush(2))
    let empty = BlockingQueue<Int>(capacity: 1)
    let pusher = try PlatformThread.start(name: "pusher") { _ = full.push(2) }
    let popper = try PlatformThread.start(name: "popper") { _ = empty.pop() }
    full.cancel()
    empty.cancel()
    #expect(pusher.join(until: soon) && popper.join(until: soon))
    #expect(full.pop() == nil)
  }

  @Test func aPoolRunsEverythingWithinItsLimits() throws {
    struct Seen: Sendable {
      var running = 0
      var most = 0
      var total = 0
    }
    let pool = ThreadPool(name: "pool", threadLimit: 3, waitingLimit: 4)
    let seen = Monitor(Seen())
    for _ in 0..<200 {
      try pool.submit {
        seen.withLock {
          $0.running += 1
          $0.most = max($0.most, $0.running)
        }
        seen.withLock {
          $0.running -= 1
          $0.total += 1
        }
      }
    }
    pool.shutDown(until: soon)
    #expect(seen.withLock { $0.total } == 200)
    #expect(seen.withLock { $0.most } <= 3)
    #expect { try pool.submit {} } throws: { ($0 as? SystemError)?.errorNumber == Errno.shutDown }
  }

  @Test func noJobWaitsBehindABusyThreadWhileAnotherMayStart() throws {
    // Jobs that wait for each other: each needs a thread of its own, in a pool that is warm from the round before.
    let pool = ThreadPool(name: "pool", threadLimit: 8, waitingLimit: 8)
    for _ in 0..<100 {
      let arrived = Monitor(0)
      for _ in 0..<8 {
        try pool.submit {
          arrived.change { $0 += 1 }
          _ = arrived.wait(until: soon) { $0 == 8 ? true : nil }
        }
      }
      #expect(arrived.wait(until: soon) { $0 == 8 ? true : nil } == true)
    }
    pool.shutDown(until: soon)
  }

  @Test func aFullPoolSaysSoAtOnce() throws {
    let gate = Monitor(false)
    let pool = ThreadPool(name: "pool", threadLimit: 1, waitingLimit: 1)
    let started = Monitor(false)
    try pool.submit {
      started.change { $0 = true }
      _ = gate.wait { $0 ? true : nil }
    }
    _ = started.wait(until: soon) { $0 ? true : nil }
    try pool.trySubmit {}
    #expect { try pool.trySubmit {} } throws: { ($0 as? SystemError)?.errorNumber == Errno.again }
    gate.change { $0 = true }
    pool.shutDown(until: soon)
  }

  @Test func blockingWorkDoesNotHoldUpTasks() async throws {
    // More jobs that wait for each other than the cooperative pool has threads.
    let arrived = Monitor(0)
    try await withThrowingTaskGroup(of: Bool.self) { group in
      for _ in 0..<32 {
        group.addTask {
          try await onBlockingThread {
            arrived.change { $0 += 1 }
            return arrived.wait(until: soon) { $0 == 32 ? true : nil } ?? false
          }
        }
      }
      for try await everybodyCame in group { #expect(everybodyCame) }
    }
    await #expect(throws: SystemError.self) { try await onBlockingThread { throw SystemError("try", because: "no") } }
  }

  @Test func aBufferPoolLendsEachBufferOnce() throws {
    let pool = BufferPool(bufferBytes: 4096, limit: 2)
    let first = pool.take()
    let second = pool.take()
    #expect(first !== second && pool.tryTake() == nil)
    #expect(UInt(bitPattern: first.bytes.baseAddress) % 4096 == 0)
    let thread = try PlatformThread.start(name: "waiter") { pool.giveBack(pool.take()) }
    pool.giveBack(first)
    #expect(thread.join(until: soon))
    pool.giveBack(second)
    #expect(pool.tryTake() != nil)
  }
}
