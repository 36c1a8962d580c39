/// A managed disk as Azure shows it.
package struct CloudDisk: Sendable, Equatable, Codable {
  package enum State: String, Sendable, Codable {
    case unattached
    case attached
    case reserved
    case other
  }
  package var resourceID: String
  package var name: String
  package var sku: String
  package var sizeBytes: UInt64
  package var zone: String?
  package var iops: Int?
  package var megabytesPerSecond: Int?
  package var state: State
  /// The VM's resource id where it is attached.
  package var attachedTo: String?
  package var tags: [String: String]
  package var provisioningState: String
  package init(
    resourceID: String, name: String, sku: String, sizeBytes: UInt64, zone: String?, iops: Int?,
    megabytesPerSecond: Int?, state: State, attachedTo: String?, tags: [String: String], provisioningState: String
  ) {
    self.resourceID = resourceID
    self.name = name
    self.sku = sku
    self.sizeBytes = sizeBytes
    self.zone = zone
    self.iops = iops
    self.megabytesPerSecond = megabytesPerSecond
    self.state = state
    self.attachedTo = attachedTo
    self.tags = tags
    self.provisioningState = provisioningState
  }
}

/// Which answer of the service a finding rests on: its support looks for it by these.
package struct CloudAnswer: Sendable, Equatable, Codable {
  /// "404 ResourceNotFound" where the service refused; nil where it showed what was asked for.
  package var refusal: String?
  package var requestID: String?
  package var clientRequestID: String
  package init(refusal: String? = nil, requestID: String?, clientRequestID: String) {
    self.refusal = refusal
    self.requestID = requestID
    self.clientRequestID = clientRequestID
  }

  /// " [request …, client request …]", to go behind what was found.
  package var note: String {
    let ids = [requestID.map { "request \($0)" }, "client request \(clientRequestID)"].compactMap { $0 }
    return (refusal.map { ": \($0)" } ?? "") + " [\(ids.joined(separator: ", "))]"
  }
}

package struct CloudAttachment: Sendable, Equatable, Codable {
  package var lun: Int
  package var diskID: String
  package init(lun: Int, diskID: String) {
    self.lun = lun
    self.diskID = diskID
  }
}

package struct CloudMachine: Sendable, Equatable, Codable {
  package var resourceID: String
  package var name: String
  package var location: String
  package var size: String
  package var zone: String?
  package var attachments: [CloudAttachment]
  /// Whether Ultra disks can be attached (`additionalCapabilities.ultraSSDEnabled`); nil where it is not known.
  package var ultraDisks: Bool?
  package init(
    resourceID: String, name: String, location: String, size: String, zone: String?, attachments: [CloudAttachment],
    ultraDisks: Bool? = nil
  ) {
    self.resourceID = resourceID
    self.name = name
    self.location = location
    self.size = size
    self.zone = zone
    self.attachments = attachments
    self.ultraDisks = ultraDisks
  }
}

/// A disk to create: everything decided, nothing defaulted by the gateway.
package struct DiskRequest: Sendable, Equatable {
  package var name: String
  package var resourceGroup: String
  package var location: String
  package var sku: String
  package var sizeGiB: Int
  package var zone: String?
  package var iops: Int?
  package var megabytesPerSecond: Int?
  package var encryptionSet: String?
  package var networkAccess: String?
  package var tags: [String: String]
  package init(
    name: String, resourceGroup: String, location: String, sku: String, sizeGiB: Int, zone: String?, iops: Int?,
    megabytesPerSecond: Int?, encryptionSet: String?, networkAccess: String?, tags: [String: String]
  ) {
    self.name = name
    self.resourceGroup = resourceGroup
    self.location = location
    self.sku = sku
    self.sizeGiB = sizeGiB
    self.zone = zone
    self.iops = iops
    self.megabytesPerSecond = megabytesPerSecond
    self.encryptionSet = encryptionSet
    self.networkAccess = networkAccess
    self.tags = tags
  }
}
