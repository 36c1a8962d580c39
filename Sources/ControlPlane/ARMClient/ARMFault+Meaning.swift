import MigrationModel
import Reconciling

/// What a refusal means for the plan: whose fault it is, which of the document's values is to blame, and what to do.
extension ARMFault {
  struct Meaning: Sendable {
    var code: String
    var advice: String
    var disposition: Disposition = .needsOperator
    var field: PlanField?
  }

  var meaning: Meaning {
    if isThrottling {
      return Meaning(
        code: AzureFaultCode.throttled, advice: "the subscription's request limit is used up; run again later",
        disposition: .retry(afterSeconds: retryAfterSeconds ?? 60))
    }
    if let known = meaningOfCode { return known }
    switch status {
    case 401:
      return Meaning(
        code: AzureFaultCode.signInRefused,
        advice: ClockSkew.advice(clockAheadSeconds) ?? "check the integration's "
          + "tenant and credential, and this machine's clock", field: .credential)
    case 403:
      return Meaning(
        code: AzureFaultCode.forbidden,
        advice: "give the credential's principal a role on the resource group that allows this action: "
          + "examples/azure/role.json is the smallest", field: .credential)
    case 404:
      return Meaning(
        code: AzureFaultCode.resourceMissing, advice: "check subscription, resource group and name in the plan",
        field: missingField)
    case 408, 500...599:
      return Meaning(
        code: AzureFaultCode.refused, advice: "run again; what is done already is found again",
        disposition: .retry(afterSeconds: 30))
    default: return meaningOfWords
    }
  }

  /// The codes that name their cause, whatever the status.
  private var meaningOfCode: Meaning? {
    if has("InvalidAuthenticationTokenTenant") {
      return Meaning(
        code: AzureFaultCode.signInRefused,
        advice: "the subscription belongs to another tenant than tenantId: correct one of them "
          + "(az account show --subscription ID tells the tenant)", field: .tenant)
    }
    if has("SubscriptionNotFound") || has("InvalidSubscriptionId") || has("ReadOnlyDisabledSubscription") {
      return Meaning(
        code: AzureFaultCode.resourceMissing,
        advice: "check subscriptionId, and that the credential's principal has a role in that subscription",
        field: .subscription)
    }
    if has("ResourceGroupNotFound") {
      return Meaning(
        code: AzureFaultCode.resourceMissing,
        advice: "correct resourceGroup, or make the group: az group create --name NAME --location LOCATION",
        field: .resourceGroup)
    }
    if isQuota {
      return Meaning(
        code: AzureFaultCode.refused,
        advice: "ask Azure to raise the quota (portal: Subscriptions, Usage + quotas), delete what isn't used, or use "
          + "another SKU", field: .sku)
    }
    if has("SkuNotAvailable") || has("NotAvailableForSubscription") {
      return Meaning(
        code: AzureFaultCode.refused,
        advice: "choose another sku or location: az vm list-skus --resource-type disks --location LOCATION shows what "
          + "there is", field: .sku)
    }
    if has("LocationNotAvailableForResourceType") || has("InvalidResourceLocation") {
      return Meaning(
        code: AzureFaultCode.refused, advice: "correct location; a disk of this name elsewhere stays where it is",
        field: .location)
    }
    return nil
  }

  private var isQuota: Bool {
    has("QuotaExceeded") || (has("OperationNotAllowed") && message.lowercased().contains("quota"))
  }

  /// Of refusals that only their words or their target tell apart.
  private var meaningOfWords: Meaning {
    if has("ConflictingUserInput") {
      return Meaning(
        code: AzureFaultCode.diskElsewhere,
        advice: "detach the disk from the other machine first, or name another disk",
        field: .diskName)
    }
    if message.contains("maximum number of data disks") {
      return Meaning(
        code: AzureFaultCode.noFreeLUN, advice: "choose a larger machine size or detach what isn't used",
        field: .machine)
    }
    if message.contains("24 hours") {
      return Meaning(
        code: AzureFaultCode.refused,
        advice: "Azure sets a disk's performance four times in 24 hours, its making included: run again when they have "
          + "passed, or take the change back", field: .iops)
    }
    if has("ChangeDiskSizeWhileAttachedNotAllowed") {
      return Meaning(
        code: AzureFaultCode.refused,
        advice: "Azure doesn't grow this disk in use: deallocate the machine and detach it first, or take size: back",
        field: .size)
    }
    if status == 200 {
      return Meaning(
        code: AzureFaultCode.operationFailed, advice: "mend what the message names, then run again", field: targetField)
    }
    if isContention {
      return Meaning(
        code: AzureFaultCode.attachContended, advice: "another operation is running; run again",
        disposition: .retry(afterSeconds: 15))
    }
    return Meaning(
      code: AzureFaultCode.refused, advice: "mend what the message names in the plan", field: targetField)
  }

  /// "disk.diskIOPSReadWrite" and the like.
  private var targetField: PlanField? {
    let target = (target ?? "").lowercased()
    let fields: [(String, PlanField)] = [
      ("disksizegb", .size), ("iops", .iops), ("mbps", .throughput), ("sku", .sku), ("zone", .zone),
      ("caching", .caching), ("encryption", .encryptionSet), ("disk.name", .diskName), ("location", .location),
    ]
    if let field = fields.first(where: { target.contains($0.0) })?.1 { return field }
    return has("InvalidAvailabilityZone") || has("BadRequest") && message.lowercased().contains("zone") ? .zone : nil
  }

  private var missingField: PlanField? {
    let text = message.lowercased()
    if text.contains("virtualmachines") { return .machine }
    if text.contains("diskencryptionset") { return .encryptionSet }
    return text.contains("disk") ? .diskName : nil
  }
}
