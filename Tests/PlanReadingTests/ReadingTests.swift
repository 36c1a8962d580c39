import BlockModel
import Diagnostics
import MigrationModel
import PlanReading
import Testing
import YAMLTree

@Suite struct ReadingTests {
  @Test func theDesignsSampleMeansWhatItSays() throws {
    let sample = try #require(try Files.goodPlans().first { $0.name == "good-design" })
    let plan = try #require(read(sample.text).plan)
    #expect(plan.metadata.id == PlanID("6f1c0c9e-6c1e-4f0e-9d1c-2f6b5a0d7e11"))
    let corp = try #require(plan.integrations["corp"])
    #expect(corp.cloud == .public)
    #expect(
      corp.credential
        == .clientSecret(
          clientID: "33333333-3333-3333-3333-333333333333", secret: .environment("AZURE_CLIENT_SECRET")))
    #expect(corp.tags == ["costCenter": "4711"])
    #expect(plan.hosts[HostName("lab-host")]?.reach == .local(root: "./lab"))
    #expect(
      plan.hosts[HostName("erp-db")]?.reach
        == .ssh(
          SSHAccess(
            user: "migrate", port: nil, identityFile: "~/.ssh/id_ed25519", jump: "bastion.example.com", sudo: true)))
    let migration = try #require(plan.migrations[MigrationName("erp-db")])
    #expect(
      migration.connection == Connection(listener: .destination, port: 4996, lanes: 2, address: "erp-db-azure.internal")
    )
    #expect(migration.integration == "corp")
    #expect(migration.volumes.map(\.name.text) == ["data", "log"])
    #expect(
      migration.volumes[0].destination
        == .disk(
          ManagedDisk(sku: .premiumV2, size: .auto, zone: "1", iops: 8_000, throughputBytesPerSecond: 400_000_000)))
    #expect(
      migration.volumes[1].destination
        == .disk(ManagedDisk(sku: .premium, size: .bytes(256 << 30), name: "erp-log", tags: ["tier": "log"])))
    #expect(migration.iqos.networkLimitBytesPerSecond == 50_000_000)
    #expect(migration.iqos.latencyBound == 0.2)
    #expect(migration.iqos.schedule.first?.window.toMinute == 1_440)
    #expect(migration.linkLossTimeoutSeconds == 5)
    #expect(migration.resyncIntervalSeconds == 900)
    #expect(migration.cutover.phase.value == .synchronized)
    #expect(
      migration.cutover.phase.position?.line
        == sample.text.split(separator: "\n", omittingEmptySubsequences: false)
        .firstIndex { $0.contains("phase: synchronized") }.map { $0 + 1 })
    #expect(migration.cutover.confirmWithinSeconds == 1_800)
    #expect(migration.cutover.windows.first?.days == [.sat])
    #expect(migration.cutover.hooks[.healthCheck]?.timeoutSeconds == 60)
    #expect(migration.cutover.hooks[.mount]?.timeoutSeconds == Hook.defaultTimeoutSeconds)
    #expect(migration.cutover.hooks[.mount]?.run == "mount {device:data} /var/lib/postgresql")
  }

  @Test func defaultsOfTheTable() throws {
    let migration = try #require(read(minimalPlan).plan?.migrations[MigrationName("erp-db")])
    #expect(migration.connection == Connection(listener: .destination, port: 4996, lanes: 2, address: nil))
    #expect(migration.iqos == IQoS(level: .moderate))
    #expect(migration.resyncIntervalSeconds == 900)
    #expect(migration.cutover.approval == .manual)
    #expect(migration.cutover.verify == .full)
    #expect(migration.volumes.first?.tracking == .auto)
  }

  @Test func defaultsMergeKeyByKeyAndListsAreReplaced() throws {
    let defaults = """
      defaults:
        iqos: {level: aggressive, networkLimit: 1 Gbit/s, schedule: [{days: [sat], from: "00:00", to: "24:00", timeZone: UTC, level: relentless}]}
        disk: {sku: PremiumV2_LRS, zone: 2, tags: {a: "1", b: "1"}}
        cutover: {approval: automatic, confirmWithin: 10m}
        connection: {port: 5000}
        tracking: tap
      migrations:
      """
    let text = minimal(replacing: "migrations:", by: defaults)
      .replacing("disk: {sku: Premium_LRS}", with: "disk: {zone: 1, tags: {b: \"2\"}}")
      .replacing(
        "    cutover:\n", with: "    iqos: {level: minimum, schedule: []}\n    cutover:\n      confirmWithin: 20m\n")
    let (plan, diagnostics) = read(text)
    #expect(diagnostics.isEmpty, "\(diagnostics)")
    let migration = try #require(plan?.migrations[MigrationName("erp-db")])
    #expect(migration.iqos == IQoS(level: .minimum, schedule: [], networkLimitBytesPerSecond: 125_000_000))
    #expect(
      migration.volumes[0].destination
        == .disk(ManagedDisk(sku: .premiumV2, size: .auto, zone: "1", tags: ["a": "1", "b": "2"])))
    #expect(migration.volumes[0].tracking == .tap)
    #expect(migration.cutover.approval == .automatic)
    #expect(migration.cutover.confirmWithinSeconds == 1_200)
    #expect(migration.connection.port == 5_000)
  }

  @Test func variablesAreTextAndNeverStructure() throws {
    let text = minimal(replacing: "metadata:", by: "variables:\n  phase: prepared\n  vg:\nmetadata:")
      .replacing("phase: synchronized", with: "phase: \"{var:phase}\"")
      .replacing("/dev/mapper/vg_erp-data", with: "\"/dev/mapper/{var:vg}-data\"")
    #expect(codes(read(text).diagnostics) == ["29 CMC1112"])
    let plan = try #require(read(text, variables: ["vg": "a: [b", "phase": "cmotion"]).plan)
    let migration = try #require(plan.migrations[MigrationName("erp-db")])
    #expect(migration.cutover.phase.value == .cmotion)
    #expect(migration.volumes[0].device == "/dev/mapper/a: [b-data")
    // A value is not looked at again.
    let nested = try #require(read(text, variables: ["vg": "{var:phase}"]).plan)
    #expect(nested.migrations[MigrationName("erp-db")]?.volumes[0].device == "/dev/mapper/{var:phase}-data")
    #expect(read(text, variables: ["vg": "x", "phase": "gone"]).diagnostics.map(\.code) == ["CMC1104"])
    #expect(read(text, variables: ["vg": "x", "phse": "x"]).diagnostics.map(\.code) == ["CMC1112"])
  }

  @Test(arguments: [
    ("64 MiB", 64 << 20), ("1.5 TiB", 3 << 39), ("256GiB", 256 << 30), ("1 GB", 1_000_000_000), ("10 B", 10),
    ("2 kB", 2_000),
  ])
  func rates(_ size: String, _ bytes: UInt64) {
    let text = minimal(replacing: "    cutover:", by: "    iqos: {networkLimit: \(size)/s}\n    cutover:")
    #expect(read(text).plan?.migrations[MigrationName("erp-db")]?.iqos.networkLimitBytesPerSecond == bytes)
  }

  @Test(arguments: [
    ("90s", 90.0), ("15m", 900), ("1h30m", 5_400), ("2d", 172_800), ("1m500ms", 60.5), ("0", nil), ("1", nil),
    ("1m1h", nil), ("-1m", nil), ("1.5h", nil), ("m", nil), ("15 m", nil), ("99999999999999999999d", nil),
  ])
  func durations(_ duration: String, _ seconds: Double?) {
    let text = minimal(replacing: "    cutover:", by: "    resync: {interval: \(duration)}\n    cutover:")
    let (plan, diagnostics) = read(text)
    #expect(plan?.migrations[MigrationName("erp-db")]?.resyncIntervalSeconds == seconds)
    #expect(diagnostics.isEmpty == (seconds != nil))
  }

  @Test func aCertificateAndACustomCloud() throws {
    let text = minimal(
      replacing: "      location: westeurope",
      by: """
              location: westeurope
              cloud: {authority: "https://127.0.0.1:8443/", resourceManager: "http://[::1]:8443", certificateAuthority: ca.pem}
              credential: {clientId: 33333333-3333-3333-3333-33333333333A, clientCertificate: {file: a.pem, password: {file: p}}}
        """)
    let (plan, diagnostics) = read(text)
    #expect(diagnostics.isEmpty, "\(diagnostics)")
    let corp = try #require(plan?.integrations["corp"])
    #expect(
      corp.cloud
        == .custom(
          authority: "https://127.0.0.1:8443", resourceManager: "http://[::1]:8443", certificateAuthorityFile: "ca.pem")
    )
    #expect(
      corp.credential
        == .clientCertificate(
          clientID: "33333333-3333-3333-3333-33333333333a", certificateFile: "a.pem", password: .file("p")))
  }

  /// The faults of one document are all there, whatever else is wrong in it.
  @Test func everyFaultIsFoundInOnePass() {
    let text = minimal(replacing: "id: 6f1c0c9e-6c1e-4f0e-9d1c-2f6b5a0d7e11", by: "id: x")
      .replacing("location: westeurope", with: "location: \"\"")
      .replacing("address: 192.0.2.10", with: "address: a b")
      .replacing("device: /dev/mapper/vg_erp-data", with: "device: [x]")
      .replacing("sku: Premium_LRS", with: "sku: Premium, size: 5, iops: x, caching: all")
      .replacing("phase: synchronized", with: "phase: done\n      approval: x\n      verify: x")
    #expect(
      read(text).diagnostics.map { $0.position?.line ?? 0 } == [4, 12, 16, 26, 27, 27, 27, 27, 29, 30, 31])
  }

  /// One wrong character in any key is found where it is, with the right word beside it.
  @Test func aTypoInAnyKeyIsFoundWithTheRightWord() throws {
    var tried = 0
    for (name, original) in try Files.goodPlans() {
      let text = original.replacing("\r\n", with: "\n").replacing("\u{feff}", with: "")
      let tree = try #require(YAMLTree.parse(bytes: Array(text.utf8), file: "plan.yaml").tree)
      for key in Self.fieldKeys(tree.root, path: []) {
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { Array($0) }
        let word = key.text
        let place = key.column - 1 + word.count / 2
        lines[key.line - 1][place] = lines[key.line - 1][place] == "x" ? "y" : "x"
        let typo = lines.map { String($0) }.joined(separator: "\n")
        let found = read(typo).diagnostics.contains {
          // What stands in place of `env` may be the secret, and has a code of its own.
          $0.position == key.position && ($0.code == "CMC1101" || $0.code == "CMC1120")
            && $0.advice == "did you mean '\(word)'?"
        }
        #expect(found, "\(name) line \(key.line): \(word)")
        tried += 1
      }
    }
    #expect(tried > 200)
  }

  /// A letter that is wrong, missing, doubled or swapped with its neighbour, at every place of every key that any example
  /// or good plan has: found where it is, with the right word.
  @Test func everyTypoInEveryKeyOfTheLanguage() throws {
    var tried = 0
    var seen: Set<String> = []
    for (name, original) in try Files.goodPlans() {
      let text = original.replacing("\r\n", with: "\n").replacing("\u{feff}", with: "")
      let tree = try #require(YAMLTree.parse(bytes: Array(text.utf8), file: "plan.yaml").tree)
      let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { Array($0) }
      for key in Self.fieldKeys(tree.root, path: []) where !key.isExplicitText {
        let place = "\(name) \(key.line) \(key.text)"
        // Each word once for each example; where it stands makes no difference to how it is read.
        guard seen.insert("\(name) \(key.text)").inserted else { continue }
        for typo in Self.typos(Array(key.text)) {
          var changed = lines
          let start = key.column - 1
          changed[key.line - 1].replaceSubrange(start..<(start + key.text.count), with: typo)
          let found = read(changed.map { String($0) }.joined(separator: "\n")).diagnostics.contains {
            $0.position == key.position && ($0.code == "CMC1101" || $0.code == "CMC1120")
              && $0.advice == "did you mean '\(key.text)'?"
          }
          #expect(found, "\(place): \(String(typo))")
          tried += 1
        }
      }
    }
    #expect(tried > 2_000)
  }

  private static func typos(_ word: [Character]) -> [[Character]] {
    var typos: Set<[Character]> = []
    for index in word.indices {
      var wrong = word
      wrong[index] = word[index] == "x" ? "y" : "x"
      typos.insert(wrong)
      if word.count > 2 {
        var missing = word
        missing.remove(at: index)
        typos.insert(missing)
      }
      var doubled = word
      doubled.insert(word[index], at: index)
      typos.insert(doubled)
      if index > 0 {
        var swapped = word
        swapped.swapAt(index - 1, index)
        typos.insert(swapped)
      }
    }
    return typos.filter { $0 != word }.sorted { String($0) < String($1) }
  }

  /// Keys of the language, not those that users choose.
  private static func fieldKeys(_ node: YAMLNode, path: [String]) -> [YAMLNode] {
    let chosen: Set<String> = [
      "integrations", "hosts", "migrations", "volumes", "tags", "variables", "notifications", "groups",
    ]
    var keys: [YAMLNode] = []
    for (key, value) in node.entries {
      if !chosen.contains(path.last ?? "") { keys.append(key) }
      // In `hosts: volumes: …` the host's name is no field.
      keys += fieldKeys(value, path: path + [chosen.contains(path.last ?? "") ? "" : key.text])
    }
    for element in node.elements { keys += fieldKeys(element, path: path + [""]) }
    return keys
  }
}
