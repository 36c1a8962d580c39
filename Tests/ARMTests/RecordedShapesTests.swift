import ARMClient
import ARMEmulator
import BlockModel
import Foundation
import MigrationModel
import Planning
import Reconciling
import Testing

/// Bodies as the real service sent them (recordings of azure-cli's own tests), given to the client; and the emulator's
/// answers held against the same shapes.
@Suite(.timeLimit(.minutes(10))) struct RecordedShapesTests {
  /// test_disk_bursting: GET of a disk, with its line ends.
  static let disk =
    "{\r\n  \"name\": \"mydisk1\",\r\n  \"id\": \"/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/"
    + "cli_test/providers/Microsoft.Compute/disks/mydisk1\",\r\n  \"type\": \"Microsoft.Compute/disks\",\r\n"
    + "  \"location\": \"centraluseuap\",\r\n  \"tags\": {},\r\n  \"sku\": {\r\n    \"name\": \"Premium_LRS\",\r\n"
    + "    \"tier\": \"Premium\"\r\n  },\r\n  \"properties\": {\r\n    \"creationData\": {\r\n"
    + "      \"createOption\": \"Empty\"\r\n    },\r\n    \"diskSizeGB\": 1024,\r\n    \"diskIOPSReadWrite\": 5000,\r\n"
    + "    \"diskMBpsReadWrite\": 200,\r\n    \"encryption\": {\r\n      \"type\": \"EncryptionAtRestWithPlatformKey\"\r\n"
    + "    },\r\n    \"networkAccessPolicy\": \"AllowAll\",\r\n    \"publicNetworkAccess\": \"Enabled\",\r\n"
    + "    \"timeCreated\": \"2023-12-01T09:54:49.8613054+00:00\",\r\n    \"provisioningState\": \"Succeeded\",\r\n"
    + "    \"diskState\": \"Unattached\",\r\n    \"diskSizeBytes\": 1099511627776,\r\n"
    + "    \"uniqueId\": \"87b57caf-837f-4bc0-97de-cafc30cfec2f\",\r\n    \"tier\": \"P30\"\r\n  }\r\n}"

  /// test_vm_disk_attach_detach_api: GET of the machine after an attach; one disk is on its way out.
  static func machine(_ disks: String) -> String {
    #"""
    {"name": "vm000002", "id": "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/cli-test/providers/Microsoft.Compute/virtualMachines/vm000002",
     "type": "Microsoft.Compute/virtualMachines", "location": "westus", "tags": {},
     "properties": {"hardwareProfile": {"vmSize": "Standard_DS1_v2"}, "provisioningState": "Succeeded",
      "vmId": "8b0c1194-dfb2-4ad5-9cd6-bcd66ab8b412", "storageProfile": {
       "osDisk": {"osType": "Linux", "name": "os", "createOption": "FromImage", "caching": "ReadWrite",
        "managedDisk": {"storageAccountType": "Premium_LRS", "id": "/subscriptions/0/os"}, "deleteOption": "Detach", "diskSizeGB": 30},
       "dataDisks": [\#(disks)]}}}
    """#
  }
  static func dataDisk(_ name: String, lun: Int, leaving: Bool = false) -> String {
    #"{"lun": \#(lun), "name": "\#(name)", "createOption": "Attach", "caching": "None", "writeAcceleratorEnabled": false, "managedDisk": {"storageAccountType": "Premium_LRS", "id": "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/REHEARSAL/providers/Microsoft.Compute/disks/\#(name)"}, "deleteOption": "Detach", "diskSizeGB": 1, "toBeDetached": \#(leaving)}"#
  }
  static let operation =
    "https://scripted/subscriptions/0/providers/Microsoft.Compute/locations/westus/operations/01285eb5?p=571046f6&c="
    + String(repeating: "MIIHHjCCBgagAwIBAgITOgI9LlF5jGEEQe1CmgAEAj0uUTANBgkqhkiG9w0BAQsFADBE", count: 60)

  @Test func aRecordedDiskIsRead() async throws {
    let (gateway, _, _) = try World.scripted([ScriptedTransport.token, ScriptedTransport.answer(200, Self.disk)])
    let disk = try #require(try await gateway.disk("mydisk1"))
    #expect(disk.sizeBytes == 1 << 40)
    #expect(disk.iops == 5000)
    #expect(disk.megabytesPerSecond == 200)
    #expect(disk.state == .unattached)
    #expect(disk.attachedTo == nil)
  }

  @Test func aRecordedAttachIsFollowed() async throws {
    let leaving = Self.dataDisk("old", lun: 0, leaving: true)
    let (gateway, transport, pauses) = try World.scripted([
      ScriptedTransport.token, ScriptedTransport.answer(200, Self.machine(leaving)),
      ScriptedTransport.answer(
        200, #"{"dataDisks": []}"#, [("azure-asyncoperation", Self.operation), ("etag", "\"9\"")]),
      ScriptedTransport.answer(
        200, #"{"startTime": "2024-10-31T16:16:48.1732381+00:00", "status": "InProgress", "name": "0"}"#),
      ScriptedTransport.answer(
        200,
        #"{"startTime": "2024-10-31T16:16:48.1732381+00:00", "endTime": "2024-10-31T16:16:54.0638945+00:00", "status": "Succeeded", "name": "0"}"#
      ),
      ScriptedTransport.answer(200, Self.machine(leaving + "," + Self.dataDisk("disk000003", lun: 1))),
    ])
    let attached = try await gateway.attach([("disk000003", .readOnly)], to: "vm000002")
    // LUN 0 is still held by the disk that leaves.
    #expect(attached.map(\.lun) == [1])
    let sent = String(decoding: transport.requests[2].body ?? [], as: UTF8.self)
    #expect(sent.contains(#""caching":"ReadOnly""#) && sent.contains(#""lun":1"#))
    #expect(transport.requests[3].url == Self.operation)
    #expect(pauses.seconds.allSatisfy { $0 >= 0.05 })
  }

  @Test(arguments: [
    (400, "InvalidParameter", "A disk at LUN 0 already exists.", "dataDisk.lun"),
    (409, "AttachDiskWhileBeingDetached", "Cannot attach data disk 'd' to VM 'v' because it is being detached.", ""),
    (409, "Conflict", "The request failed due to conflict with a concurrent request.", ""),
    (409, "OperationPreempted", "Preempted by a more recent operation.", ""),
  ])
  func whatOthersDoAtTheSameTimeIsWaitedOut(status: Int, code: String, message: String, target: String) async throws {
    let refusal = #"{"error":{"code":"\#(code)","message":"\#(message)","target":"\#(target)"}}"#
    let (gateway, transport, _) = try World.scripted([
      ScriptedTransport.token, ScriptedTransport.answer(200, Self.machine("")),
      ScriptedTransport.answer(status, refusal),
      ScriptedTransport.answer(200, Self.machine(Self.dataDisk("rival", lun: 0))),
      ScriptedTransport.answer(200, "{}", [("azure-asyncoperation", Self.operation)]),
      ScriptedTransport.answer(200, #"{"status":"Succeeded"}"#),
      ScriptedTransport.answer(200, Self.machine(Self.dataDisk("rival", lun: 0) + "," + Self.dataDisk("data", lun: 1))),
    ])
    #expect(try await gateway.attach([("data", .none)], to: "vm000002").map(\.lun) == [1])
    #expect(String(decoding: transport.requests[4].body ?? [], as: UTF8.self).contains(#""lun":1"#))
  }

  /// Keys of an object and of those inside it: "properties.creationData.createOption".
  static func keys(_ json: [UInt8]) throws -> Set<String> {
    func walk(_ value: Any, _ path: String, _ found: inout Set<String>) {
      guard let object = value as? [String: Any] else { return }
      for (key, inner) in object {
        found.insert(path + key)
        walk(inner, path + key + ".", &found)
      }
    }
    var found: Set<String> = []
    walk(try JSONSerialization.jsonObject(with: Data(json)), "", &found)
    return found
  }

  @Test func theEmulatorsDiskHasTheRecordedKeys() async throws {
    try await World.withEmulator { lab in
      _ = try await lab.gateway().ensureDisk(World.request("mydisk1", sizeGiB: 1, tags: World.tags()))
      let answer = try await lab.raw(
        .get, "/resourceGroups/rehearsal/providers/Microsoft.Compute/disks/mydisk1?api-version=2023-04-02")
      #expect(answer.status == 200)
      let recorded = try Self.keys(Array(Self.disk.utf8))
      let ours = try Self.keys(answer.body).filter { !$0.hasPrefix("tags.") }
      #expect(ours == recorded)
      #expect(
        answer.header("x-ms-ratelimit-remaining-resource")?.hasPrefix("Microsoft.Compute/LowCostGet3Min;") == true)
      #expect(answer.header("content-type") == "application/json; charset=utf-8")
    }
  }

  /// Time runs slowly here, so that the operation is still under way however slow this machine is.
  @Test func theEmulatorAnswersAPutAsRecorded() async throws {
    try await World.withEmulator(timeScale: 0.01) { lab in
      let body =
        #"{"location":"westeurope","tags":{},"sku":{"name":"Premium_LRS"},"properties":{"creationData":{"createOption":"Empty"},"diskSizeGB":1024,"burstingEnabled":true}}"#
      let answer = try await lab.raw(
        .put, "/resourceGroups/rehearsal/providers/Microsoft.Compute/disks/d?api-version=2023-04-02", body)
      #expect(answer.status == 202)
      #expect(
        try Self.keys(answer.body) == [
          "name", "id", "type", "location", "tags", "sku", "sku.name", "properties", "properties.creationData",
          "properties.creationData.createOption", "properties.diskSizeGB", "properties.burstingEnabled",
          "properties.provisioningState",
        ])
      let operation = try #require(answer.header("azure-asyncoperation"))
      let location = try #require(answer.header("location"))
      #expect(operation.contains("/DiskOperations/") && operation.utf8.count > 3000)
      #expect(location.contains("&monitor=true"))
      #expect(answer.header("retry-after").flatMap(Int.init) != nil)
      let status = try await lab.raw(.get, url: operation)
      #expect(try Self.keys(status.body) == ["startTime", "status", "name"])
      let missing = try await lab.raw(
        .get, "/resourceGroups/rehearsal/providers/Microsoft.Compute/disks/nope?api-version=2023-04-02")
      #expect(
        String(decoding: missing.body, as: UTF8.self)
          == #"{"error":{"code":"ResourceNotFound","message":"The Resource 'Microsoft.Compute/disks/nope' under resource group 'rehearsal' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix"}}"#
      )
    }
  }

  /// Time runs slowly here, so that no bucket fills again however slow this machine is.
  @Test func bucketsEmptyAndSayWhenToComeBack() async throws {
    try await World.withEmulator(timeScale: 0.01) { lab in
      var last: HTTPResponse?
      for _ in 0..<37 {
        last = try await lab.raw(
          .get, "/resourceGroups/rehearsal/providers/Microsoft.Compute/virtualMachines/erp-db?api-version=2024-07-01")
      }
      #expect(last?.status == 429)
      #expect(last?.header("retry-after").flatMap(Int.init).map { (1...600).contains($0) } == true)
      #expect(last.map { String(decoding: $0.body, as: UTF8.self).contains("TooManyRequests") } == true)
    }
  }
}

extension Lab {
  /// A request with a token of its own, below the subscription.
  func raw(_ method: HTTPRequest.Method, _ path: String, _ body: String? = nil) async throws -> HTTPResponse {
    try await raw(method, url: "\(url)/subscriptions/\(EmulatorConfiguration.defaultSubscription)\(path)", body)
  }

  func raw(_ method: HTTPRequest.Method, url: String, _ body: String? = nil) async throws -> HTTPResponse {
    struct Token: Decodable {
      var access_token: String
    }
    let transport = try CurlTransport(CurlSettings(certificateAuthorityFile: authorityFile, environment: [:]))
    let form =
      "grant_type=client_credentials&client_id=\(EmulatorConfiguration.defaultClientID)"
      + "&client_secret=\(World.secretValue)&scope=https%3A%2F%2Fmanagement.azure.com%2F.default"
    let signedIn = try await transport.send(
      HTTPRequest(.post, "\(self.url)/\(EmulatorConfiguration.defaultTenant)/oauth2/v2.0/token", body: Array(form.utf8))
    )
    let token = try JSONDecoder().decode(Token.self, from: Data(signedIn.body)).access_token
    return try await transport.send(
      HTTPRequest(
        method, url,
        headers: [HTTPHeader("Authorization", "Bearer \(token)"), HTTPHeader("Content-Type", "application/json")],
        body: body.map { Array($0.utf8) }))
  }
}
