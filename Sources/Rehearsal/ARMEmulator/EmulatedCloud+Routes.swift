/// Which part of the service a path belongs to.
extension EmulatedCloud {
  mutating func resourceRoute(
    _ request: EmulatorRequest, now: Double
  ) throws(Refusal) -> EmulatorResponse {
    let path = request.folded
    guard path.first == "subscriptions" else { throw notFoundPath(request) }
    if path.count == 1 { return EmulatorResponse(200, ["value": [subscription], "nextLink": ""]) }
    guard path[1] == configuration.subscription.lowercased() else {
      throw Refusal(404, "SubscriptionNotFound", "The subscription '\(request.path[1])' could not be found.")
    }
    if path.count == 2 { return EmulatorResponse(200, subscription) }
    switch path[2] {
    case "resourcegroups": return try groupRoute(request, now: now)
    case "locations" where path.count == 3 && request.method == "GET": return EmulatorResponse(200, locations)
    case "providers" where path.count > 4: return try providerRoute(request, now: now)
    default: throw notFoundPath(request)
    }
  }

  /// Below the subscription.
  private mutating func providerRoute(
    _ request: EmulatorRequest, now: Double
  ) throws(Refusal) -> EmulatorResponse {
    let path = request.folded
    guard request.method == "GET" else { throw notFoundPath(request) }
    switch (path[3], path[4], path.count) {
    case ("microsoft.authorization", "permissions", 5): return EmulatorResponse(200, permissions)
    case ("microsoft.compute", "disks", 5): return try listDisks(request, group: nil, now: now)
    case ("microsoft.compute", "virtualmachines", 5): return listMachines(request)
    case ("microsoft.compute", "skus", 5): return listSKUs(request)
    case ("microsoft.compute", "locations", 7) where path[6] == "usages":
      return try usages(location: request.path[5])
    case ("microsoft.compute", "locations", 8) where ["operations", "diskoperations"].contains(path[6]):
      return try operationStatus(request, id: request.path[7], isDisk: path[6] == "diskoperations", now: now)
    default: throw notFoundPath(request)
    }
  }

  private mutating func groupRoute(_ request: EmulatorRequest, now: Double) throws(Refusal) -> EmulatorResponse {
    let path = request.folded
    if path.count == 3 { return EmulatorResponse(200, ["value": [resourceGroup]]) }
    guard path[3] == configuration.resourceGroup.lowercased() else {
      throw Refusal(404, "ResourceGroupNotFound", "Resource group '\(request.path[3])' could not be found.")
    }
    if path.count == 4 { return EmulatorResponse(200, resourceGroup) }
    guard path.count > 6, path[4] == "providers" else { throw notFoundPath(request) }
    if path[5] == "microsoft.authorization", path[6] == "permissions" { return EmulatorResponse(200, permissions) }
    guard path[5] == "microsoft.compute" else { throw notFoundPath(request) }
    let name = path.count > 7 ? request.path[7] : ""
    switch (path[6], path.count, request.method) {
    case ("disks", 7, "GET"): return try listDisks(request, group: configuration.resourceGroup, now: now)
    case ("disks", 8, "GET"): return try getDisk(request, name: name, now: now)
    case ("disks", 8, "PUT"): return try putDisk(request, name: name, now: now)
    case ("disks", 8, "PATCH"): return try patchDisk(request, name: name, now: now)
    case ("disks", 8, "DELETE"): return try deleteDisk(request, name: name, now: now)
    case ("diskencryptionsets", 8, "GET"): return try getEncryptionSet(name: name)
    case ("virtualmachines", 7, "GET"): return listMachines(request)
    case ("virtualmachines", 8, _), ("virtualmachines", 9, _): return try machineRoute(request, name: name, now: now)
    default: throw notFoundPath(request)
    }
  }

  private mutating func machineRoute(
    _ request: EmulatorRequest, name: String, now: Double
  ) throws(Refusal) -> EmulatorResponse {
    let part = request.folded.count > 8 ? request.folded[8] : ""
    switch (request.method, part) {
    case ("GET", ""): return try getMachine(request, name: name, now: now)
    case ("PUT", ""): return try putMachine(request, name: name, now: now)
    case ("PATCH", ""): return try patchMachine(request, name: name, now: now)
    case ("DELETE", ""): return try deleteMachine(request, name: name, now: now)
    case ("GET", "instanceview"): return try getInstanceView(name: name, now: now)
    case ("POST", "attachdetachdatadisks"): return try attachDetach(request, name: name, now: now)
    case ("POST", "deallocate"): return try power(request, name: name, isRunning: false, now: now)
    case ("POST", "start"), ("POST", "restart"): return try power(request, name: name, isRunning: true, now: now)
    default: throw notFoundPath(request)
    }
  }
}
