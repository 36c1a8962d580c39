internal import MigrationModel
internal import YAMLTree

/// A first plan, commented, of a few answers: what `cmcplan init` writes.
package struct PlanTemplate: Sendable, Equatable {
  /// What is asked, in this order.
  package enum Question: String, Sendable, CaseIterable {
    case name
    case owner
    case tenant
    case subscription
    case resourceGroup
    case location
    case source
    case sourceAddress
    case sourceUser
    case destination
    case destinationAddress
    case destinationUser
    case virtualMachine
    case volume
    case device
    case sku
    case zone
    case operatingSystemLicensed
    case applicationLicensed

    package var text: String {
      switch self {
      case .name: "Name of the plan"
      case .owner: "Who answers for it (an e-mail address or a team; may be empty)"
      case .tenant: "Azure tenant (az account show --query tenantId)"
      case .subscription: "Azure subscription (az account show --query id)"
      case .resourceGroup: "Resource group of the virtual machine, where disks are made"
      case .location: "Azure location, as in westeurope"
      case .source: "Name of the source host, for this plan"
      case .sourceAddress: "Its DNS name or IP address"
      case .sourceUser: "User to log in there by SSH (may be empty: what ~/.ssh/config says)"
      case .destination: "Name of the destination host, for this plan"
      case .destinationAddress: "Its DNS name or IP address"
      case .destinationUser: "User to log in there by SSH (may be empty)"
      case .virtualMachine: "Name of its virtual machine in Azure"
      case .volume: "Name of the volume to move, for this plan"
      case .device: "Its device on the source, by a name that stays (ls -l /dev/disk/by-id)"
      case .sku: "Kind of disk (Premium_LRS, PremiumV2_LRS, UltraSSD_LRS, StandardSSD_LRS, …)"
      case .zone: "Availability zone of the virtual machine (may be empty)"
      case .operatingSystemLicensed: "May the operating system run in Azure by its licence? (true or false)"
      case .applicationLicensed: "May the application? (true or false)"
      }
    }

    /// What is taken where nothing is answered; nil where an answer is needed.
    package var suggestion: String? {
      switch self {
      case .owner, .sourceUser, .destinationUser, .zone: ""
      case .name: "migration"
      case .location: "westeurope"
      case .volume: "data"
      case .sku: "Premium_LRS"
      case .operatingSystemLicensed, .applicationLicensed: "false"
      default: nil
      }
    }

    /// Whether an answer is right; nil, or what is wrong with it and what to write.
    package func fault(of answer: String) -> (message: String, advice: String)? {
      if answer.isEmpty { return suggestion == "" ? nil : ("nothing is answered", "it is needed") }
      do throws(ValueFault) {
        switch self {
        case .name, .source, .destination, .volume: try Self.check(answer, .name)
        case .owner: try Self.check(answer, .text(length: 0...256))
        case .tenant: try Self.check(answer, .tenant)
        case .subscription: try Self.check(answer, .uuid)
        case .resourceGroup: try Self.check(answer, .resourceGroup)
        case .location: try Self.check(answer, .location)
        case .sourceAddress, .destinationAddress: try Self.check(answer, .address)
        case .sourceUser, .destinationUser: try Self.check(answer, .userName)
        case .virtualMachine: try Self.check(answer, .virtualMachine)
        case .device: try Self.check(answer, .path)
        case .sku: try Self.check(answer, ValueType<ManagedDisk.SKU>.choice)
        case .zone: try Self.check(answer, .zone)
        case .operatingSystemLicensed, .applicationLicensed: try VariableType.boolean.check(answer)
        }
        return self == .device && !answer.hasPrefix("/") ? ("this is no absolute path", "write it from '/' on") : nil
      } catch {
        return (error.message, error.advice)
      }
    }

    private static func check<Value>(_ text: String, _ type: ValueType<Value>) throws(ValueFault) {
      if let parse = type.parse { _ = try parse(text) }
    }
  }

  /// Where the plan's first line tells editors to find the schema: beside it.
  package static let schemaFile = "migration-plan.schema.json"

  /// The plan's own id, a UUID.
  package var id: String
  package var answers: [Question: String]
  package init(id: String, answers: [Question: String]) {
    self.id = id
    self.answers = answers
  }

  private func value(_ question: Question) -> String { answers[question] ?? question.suggestion ?? "" }

  /// A scalar as YAML: quoted where YAML, of any version, would take something else from it.
  private func yaml(_ question: Question) -> String { Self.scalar(value(question)) }

  static func scalar(_ text: String) -> String {
    let isPlain =
      !text.isEmpty && text.utf8.allSatisfy { $0 > 32 && $0 < 127 && !"\"'\\#:{}[],&*!|>%@`?".utf8.contains($0) }
      && text.utf8.first.map { !"-.0123456789~=<+".utf8.contains($0) } ?? false
      && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(text.lowercased())
    if isPlain { return text }
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"", "\\": result += "\\\(scalar)"
      default:
        if scalar.value < 32 || scalar.value == 127 {
          result += "\\x" + (scalar.value < 16 ? "0" : "") + String(scalar.value, radix: 16)
        } else {
          result.unicodeScalars.append(scalar)
        }
      }
    }
    return result + "\""
  }

  /// The plan. It validates where every answer is right.
  package func text() -> String {
    head + attestations + hosts + migrations
  }

  private var head: String {
    """
    # yaml-language-server: $schema=\(Self.schemaFile)
    # A migration plan: where each migration should be. 'cmcplan validate' checks it, 'cmcplan plan' shows what 'apply'
    # would do. The schema, for completion in editors, is from 'cmcplan schema'.
    apiVersion: cmcplan/v1
    kind: MigrationPlan

    metadata:
      id: \(id)   # this plan's own; it owns disks and sessions. Never change it
      name: \(yaml(.name))
      \(value(.owner).isEmpty ? "# owner: storage@example.com   # whom to ask" : "owner: \(yaml(.owner))")

    integrations:
      azure:
        azure:
          tenantId: \(yaml(.tenant))
          subscriptionId: \(yaml(.subscription))
          resourceGroup: \(yaml(.resourceGroup))
          location: \(yaml(.location))
          # Without 'credential': environment, workload identity, managed identity, az CLI, in that order.
          # credential: {clientId: 33333333-3333-3333-3333-333333333333, clientSecret: {env: AZURE_CLIENT_SECRET}}

    """
  }

  private var attestations: String {
    let rows: [(String, Question)] = [
      ("operatingSystemLicensed", .operatingSystemLicensed), ("applicationLicensed", .applicationLicensed),
    ]
    return "\n# What no API can tell. Nothing is prepared before both are true.\nattestations:\n"
      + rows.map { "  \($0.0): \(value($0.1) == "true" ? "true" : "false")\n" }.joined()
  }

  private var hosts: String {
    func host(_ name: Question, _ address: Question, _ user: Question) -> String {
      var text = "  \(yaml(name)):\n    address: \(yaml(address))\n"
      text +=
        value(user).isEmpty
        ? "    # ssh: {user: migrate, sudo: true}   # your ~/.ssh/config applies too\n"
        : "    ssh: {user: \(yaml(user)), sudo: \(value(user) == "root" ? "false" : "true")}\n"
      return text
    }
    return "\nhosts:\n" + host(.source, .sourceAddress, .sourceUser)
      + host(.destination, .destinationAddress, .destinationUser)
      + "    azureVirtualMachine: \(yaml(.virtualMachine))\n"
  }

  private var migrations: String {
    let zone = value(.zone).isEmpty ? "" : "\n          zone: \"\(value(.zone))\""
    return """

      migrations:
        \(yaml(.source)):
          source: \(yaml(.source))
          destination: \(yaml(.destination))
          volumes:
            \(yaml(.volume)):
              device: \(yaml(.device))
              disk:
                sku: \(yaml(.sku))
                size: auto   # the source's, rounded up to whole GiB; or as in 256 GiB\(zone)
          iqos: moderate   # of the available bandwidth: minimum 25 %, moderate 50 %, aggressive 75 %, relentless all
          resync: {interval: 15m}
          cutover:
            # The line that people review: prepared, synchronized, cmotion, finalized (one-way), retired.
            phase: prepared
            approval: manual   # the one-way step waits for 'cmcplan approve'
            verify: full
            # windows: [{days: [sat], from: "02:00", to: "04:00", timeZone: Europe/Berlin}]
            # hooks:
            #   stopApplication: {run: systemctl stop postgresql}
            #   unmount: {run: umount /var/lib/postgresql}
            #   mount: {run: "mount {device:\(value(.volume))} /var/lib/postgresql"}
            #   startApplication: {run: systemctl start postgresql}
            #   healthCheck: {run: pg_isready, timeout: 60s}

      """
  }
}
