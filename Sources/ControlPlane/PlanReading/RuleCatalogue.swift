package import Diagnostics

/// What each diagnostic of a document means, for whoever asks about its code.
package enum RuleCatalogue {
  /// In the order of their codes.
  package static let rules: [CodeExplanation] = yaml + fields + plan + disks + conditions

  /// Nil where there is no such rule. The code may be written in lower case.
  package static func rule(_ code: String) -> CodeExplanation? { rules.first { $0.code == code.uppercased() } }

  /// "did you mean 'x'?", or nothing.
  package static func suggestion(for word: String, among candidates: [String]) -> String {
    Suggestion.phrase(for: word, among: candidates)
  }

  private static func rule(_ code: String, _ rule: String, _ reason: String, _ example: String) -> CodeExplanation {
    CodeExplanation(code, rule, reason, example)
  }

  private static let yaml: [CodeExplanation] = [
    rule(
      "CMC1001", "a document is UTF-8, without control characters", "Other encodings turn names into other names.",
      "name: Größe   # saved as UTF-8, without a line of control characters"),
    rule(
      "CMC1002", "indentation is of spaces",
      "YAML forbids tabs there: editors show them with different widths. No-break spaces, from web pages, are no spaces.",
      "hosts:\n  erp-db:\n    address: 192.0.2.10"),
    rule(
      "CMC1003", "a document is YAML", "What can't be parsed can't be checked; further faults may show up once it can.",
      "volumes:\n  data: {device: /dev/vg/data, disk: {sku: Premium_LRS}}"),
    rule(
      "CMC1004", "a document has limits",
      "256 MiB, 32 million values, 1 MiB a text: far beyond any plan, and short of trouble.",
      "cmcplan plan -f plans/   # a plan may be spread over files"),
    rule(
      "CMC1005", "values nest at most 64 deep", "A plan needs 12 levels. Deeper ones are an accident or an attack.",
      "migrations:\n  erp-db:\n    cutover:\n      phase: synchronized"),
    rule(
      "CMC1006", "a file holds one document", "Of a second one it would not be clear whether it adds or replaces.",
      "cmcplan plan -f hosts.yaml -f migrations.yaml   # a file each, without ---"),
    rule(
      "CMC1007", "a document is not empty",
      "An empty plan would mean that nothing is wanted; that is written as 'migrations: {}'.", "migrations: {}"),
    rule(
      "CMC1008", "a key is plain text", "Braces without quotes are a mapping to YAML, and a mapping can't be a key.",
      "run: \"mount {device:data} /mnt\""),
    rule(
      "CMC1009", "a key stands once in its mapping",
      "Most parsers keep the last one and drop the other without a word.", "tags: {costCenter: \"4711\", tier: log}"),
    rule(
      "CMC1010", "an alias names an anchor above it", "'*name' repeats what '&name' marked before.",
      "data: &disk {sku: Premium_LRS}\nlog: *disk"),
    rule(
      "CMC1011", "aliases repeat at most a million values",
      "A few lines of nested aliases can mean billions of values.", "data: &disk {sku: Premium_LRS}\nlog: *disk"),
    rule(
      "CMC1012", "'<<' merges mappings", "It puts the entries of a mapping into this one.",
      "log: {<<: *disk, size: 64 GiB}"),
    rule(
      "CMC1013", "there are no tags but YAML's own", "A tag such as '!Ref' asks for a program that isn't here.",
      "phase: synchronized"),
    rule(
      "CMC1014", "a name stands in one file of a plan",
      "Files are merged by name: hosts, migrations and so on may be spread, but none is said twice. Lists are joined.",
      "# hosts.yaml\nhosts: {erp-db: {address: 192.0.2.10}}\n# migrations.yaml\nmigrations: {erp-db: {source: erp-db, destination: erp-db-azure}}"
    ),
  ]

  private static let fields: [CodeExplanation] = [
    rule(
      "CMC1100", "the first thousand faults are shown", "More would hide what to begin with.",
      "cmcplan validate --format json | head"),
    rule(
      "CMC1101", "every key is one that has a meaning",
      "A misspelled key would be ignored, and its default would be used.",
      "address: 192.0.2.10"),
    rule(
      "CMC1102", "what has no default is written", "A guess here could be the wrong disk or the wrong host.",
      "source: erp-db\ndestination: erp-db-azure"),
    rule(
      "CMC1103", "a value has the kind that its key needs",
      "One value, a list ('- item') and a mapping ('key: value') are different things.",
      "days: [sat, sun]\niqos: {level: moderate}"),
    rule(
      "CMC1104", "a value is one of those that exist", "Words are compared exactly, letters' case included.",
      "phase: synchronized"),
    rule(
      "CMC1105", "a quantity has a unit", "256 of what? A thousandfold difference is easily missed in review.",
      "size: 256 GiB\ninterval: 15m\nnetworkLimit: 400 Mbit/s\nlatencyBound: 20%"),
    rule(
      "CMC1106", "a quantity is a number and a known unit",
      "Sizes: B, KiB to PiB (1024), kB to PB (1000). Rates: those with /s, and bit/s to Tbit/s. Durations: d, h, m, s, ms.",
      "size: 1.5 TiB\ninterval: 1h30m\nthroughput: 400 MB/s"),
    rule("CMC1107", "a value is in its range", "The range is that of Azure, TCP or the agent.", "port: 4996\nlanes: 2"),
    rule(
      "CMC1108", "a text has the form that its key needs",
      "Names are a-z, 0-9 and '-': they become parts of tags, files and disks' names.",
      "migrations:\n  erp-db:\n    source: erp-db"),
    rule(
      "CMC1110", "keys that exclude each other don't stand together",
      "A volume has a disk or an existing destination, a host ssh or local.",
      "data: {device: /dev/vg/data, disk: {sku: Premium_LRS}}\nlog: {device: /dev/vg/log, destination: {device: /dev/vg/copy}}"
    ),
    rule(
      "CMC1111", "numbers and booleans are written so that every YAML reads them alike",
      "'yes', '012' and '1_000' mean different things in YAML 1.1 and 1.2; a number in quotes is a text.",
      "sudo: true\nport: 22"),
    rule(
      "CMC1112", "a variable is declared and has a value",
      "Values come from --set name=value, --variables FILE, CMCPLAN_VAR_name or the plan's default, in that order.",
      "variables: {phase: prepared}\nphase: \"{var:phase}\""),
    rule(
      "CMC1113", "the document says what it is", "So that a later version can read older plans.",
      "apiVersion: cmcplan/v1\nkind: MigrationPlan"),
    rule(
      "CMC1114", "a time zone is an IANA name, or UTC",
      "Abbreviations are ambiguous and follow no daylight-saving rules.", "timeZone: Europe/Berlin"),
    rule(
      "CMC1120", "a secret is never written in a document",
      "Plans are reviewed, copied and kept for good. A secret that was in one must be replaced.",
      "clientSecret: {env: AZURE_CLIENT_SECRET}"),
    rule(
      "CMC1121", "a client id is a UUID",
      "It is not repeated in messages, because secrets are pasted there by mistake.",
      "credential: {clientId: 33333333-3333-3333-3333-333333333333, clientSecret: {env: AZURE_CLIENT_SECRET}}"),
  ]

  private static let plan: [CodeExplanation] = [
    rule(
      "CMC1201", "the plan has an id of its own",
      "It owns tags, disks' names and sessions: two plans with one id would undo each other's work.",
      "metadata: {id: 6f1c0c9e-6c1e-4f0e-9d1c-2f6b5a0d7e11, name: erp-to-azure}"),
    rule(
      "CMC1202", "a variable is used", "One that nothing uses is often one that is misspelled where it is used.",
      "variables: {phase: prepared}\nphase: \"{var:phase}\""),
    rule(
      "CMC1203", "a device belongs to one volume",
      "Two volumes would overwrite each other. Spellings such as '//' and '/./' are the same device.",
      "data: {device: /dev/mapper/vg_erp-data}\nlog: {device: /dev/mapper/vg_erp-log}"),
    rule(
      "CMC1204", "a variable's value is of the type that it is declared with",
      "So that a wrong one is found where it is given, and not where it is used.",
      "variables: {wait: {type: duration, default: 15m}}"),
    rule(
      "CMC1210", "a host that is named exists", "Hosts are described under 'hosts:', by the names that migrations use.",
      "hosts: {erp-db: {address: 192.0.2.10}}\nsource: erp-db"),
    rule(
      "CMC1211", "disks come from an integration", "The only integration is everyone's; of several, one must be named.",
      "integration: corp"),
    rule(
      "CMC1212", "a migration has a volume", "There would be nothing to move.",
      "volumes:\n  data: {device: /dev/mapper/vg_erp-data, disk: {sku: Premium_LRS}}"),
    rule(
      "CMC1213", "a device has a name that stays",
      "/dev/sdb is the second disk that was found at boot, and may be another one next time.",
      "device: /dev/disk/by-id/wwn-0x5000c500a1b2c3d4"),
    rule(
      "CMC1214", "boot, operating system and temporary disks aren't moved",
      "The destination has an operating system of its own; a temporary disk holds nothing that anybody relies on.",
      "device: /dev/mapper/vg_erp-data"),
    rule(
      "CMC1220", "a host has an address", "The other agent, and SSH, must find it.",
      "hosts:\n  erp-db: {address: 192.0.2.10}"),
    rule(
      "CMC1221", "local hosts have directories of their own", "Two agents in one directory would share their state.",
      "erp-db: {local: {root: ./hosts/erp-db}}\nerp-db-azure: {local: {root: ./hosts/erp-db-azure}}"),
    rule(
      "CMC1222", "a host is used", "One that no migration names gets no agent.",
      "hosts: {erp-db: {address: 192.0.2.10}}\nsource: erp-db"),
    rule(
      "CMC1225", "a device is a path", "From '/' on; only local hosts (demos) have paths below their root.",
      "device: /dev/mapper/vg_erp-data"),
    rule(
      "CMC1227", "a port serves one migration of a host", "Only one listener can have it.", "connection: {port: 4997}"),
    rule(
      "CMC1228", "a window can open", "One that ends before it starts never does. Midnight is crossed by two windows.",
      "windows:\n  - {days: [sat], from: \"22:00\", to: \"24:00\", timeZone: Europe/Berlin}\n  - {days: [sun], from: \"00:00\", to: \"04:00\", timeZone: Europe/Berlin}"
    ),
    rule(
      "CMC1229", "a day stands once in a window", "The other one was probably meant to be another day.",
      "windows: [{days: [sat, sun], from: \"02:00\", to: \"04:00\", timeZone: Europe/Berlin}]"),
    rule(
      "CMC1230", "cMotion needs a tap",
      "With 'tracking: checksum' nothing sees the application's writes as they happen.",
      "tracking: auto\nphase: cmotion"),
    rule(
      "CMC1231", "a host that gets disks names its virtual machine",
      "Disks are attached to an Azure VM, which is not known by the host's address.", "azureVirtualMachine: erp-db"),
    rule(
      "CMC1232", "a hook runs on a host of its migration", "Only those two have an agent that knows of it.",
      "healthCheck: {host: erp-db-azure, run: pg_isready}"),
    rule(
      "CMC1233", "a hook's placeholder names a volume", "{device:NAME} and {lun:NAME} are replaced on the host.",
      "run: \"mount {device:data} /mnt\""),
    rule(
      "CMC1234", "a LUN is that of a disk", "An existing destination device has none that is known.",
      "run: \"mount {device:data} /mnt\""),
  ]

  private static let disks: [CodeExplanation] = [
    rule(
      "CMC1240", "tags named 'cmcplan-…' are cmcplan's own", "By them a later run finds what an earlier one made.",
      "tags: {costCenter: \"4711\"}"),
    rule(
      "CMC1241", "an existing disk keeps what was decided when it was made",
      "Its name, group, encryption and network access are its own.",
      "disk: {id: /subscriptions/22222222-2222-2222-2222-222222222222/resourceGroups/erp/providers/Microsoft.Compute/disks/erp-log, sku: Premium_LRS}"
    ),
    rule(
      "CMC1242", "a disk belongs to one volume", "Azure compares names without regard to case.",
      "data: {device: /dev/vg/data, disk: {sku: Premium_LRS, name: erp-data}}\nlog: {device: /dev/vg/log, disk: {sku: Premium_LRS, name: erp-log}}"
    ),
    rule("CMC1243", "a disk has whole GiB", "Azure takes no other size. 500 GB are 465.7 GiB.", "size: 466 GiB"),
    rule(
      "CMC1244", "a disk has a size that its kind can have",
      "Up to 32,767 GiB; PremiumV2 up to 65,536; Ultra from 4 to 65,536.",
      "disk: {sku: UltraSSD_LRS, size: 256 GiB, zone: \"1\"}"),
    rule(
      "CMC1245", "host caching is only where Azure has it", "None on PremiumV2 and Ultra, and none from 4 TiB on.",
      "caching: none"),
    rule(
      "CMC1246", "a zone-redundant disk has no zone", "It is in all of them.", "disk: {sku: Premium_ZRS, size: 256 GiB}"
    ),
    rule(
      "CMC1247", "PremiumV2 and Ultra disks name a zone",
      "In most regions they exist only in zones, and must be in the VM's.", "zone: \"1\""),
    rule(
      "CMC1248", "only PremiumV2 and Ultra disks have IOPS and throughput of choice",
      "Of other kinds, the size decides.", "disk: {sku: PremiumV2_LRS, zone: \"1\", iops: 8000, throughput: 400 MB/s}"),
    rule(
      "CMC1249", "a virtual machine has at most 64 data disks",
      "LUNs are 0 to 63; small sizes allow far fewer, which 'cmcplan plan' checks.",
      "destination: erp-db-azure-2   # a second virtual machine"),
    rule(
      "CMC1250", "IOPS are what the disk's kind and size allow",
      "PremiumV2: 3,000 to 500 a GiB, at most 80,000. Ultra: 100 to 1,000 a GiB, at most 400,000.",
      "disk: {sku: PremiumV2_LRS, size: 256 GiB, zone: \"1\", iops: 8000}"),
    rule(
      "CMC1251", "throughput is what the disk's IOPS allow",
      "Whole MB/s (10^6 bytes), 0.25 for each of its IOPS. PremiumV2: 125 to 2,000. Ultra: 1 to 10,000.",
      "disk: {sku: PremiumV2_LRS, size: 256 GiB, zone: \"1\", iops: 8000, throughput: 400 MB/s}"),
    rule(
      "CMC1252", "a disk says of which kind it is, itself or by the plan's defaults",
      "A guess could be ten times too slow, or ten times too dear.", "defaults: {disk: {sku: Premium_LRS}}"),
  ]

  private static let conditions: [CodeExplanation] = [
    rule(
      "CMC1260", "somebody has answered for the licences", "No API can tell whether they allow Azure.",
      "attestations: {operatingSystemLicensed: true, applicationLicensed: true}"),
    rule(
      "CMC1261", "a final cutover is proven", "With 'verify: none' nothing shows that both copies are the same.",
      "verify: full"),
    rule(
      "CMC1270", "a migration that is named exists", "Waves, groups and renames speak of migrations of this plan.",
      "waves: [{name: pilot, migrations: [erp-db]}]"),
    rule(
      "CMC1271", "a migration stands in one wave and in one group",
      "Of two it would not be clear which one it waits for, or swings with.",
      "waves: [{name: pilot, migrations: [erp-db]}, {name: rest, migrations: [crm-db]}]"),
    rule(
      "CMC1272", "a group's migrations can swing together",
      "Two at least, with the same phase, confirmWithin and windows, in the same wave: otherwise one of them would always "
        + "keep the others back, or go back without them.", "groups: {erp: [erp-db, erp-app]}"),
    rule(
      "CMC1273", "a rename goes from a name that is gone to one that is there",
      "Tags and catalogues are changed once. A name that is still used has a session of its own, and a session's "
        + "volumes stay together.",
      "moved: [{from: old-db, to: erp-db}, {from: erp-db/data, to: erp-db/tables}]"),
    rule(
      "CMC1274", "somebody waits for a wave's bake time and health check",
      "They keep the next wave back. After the last one they would be words that nothing comes of.",
      "waves: [{name: pilot, migrations: [erp-db], bake: 2d}, {name: rest, migrations: [crm-db]}]"),
    rule(
      "CMC1290", "a cloud or an archive's place that isn't Microsoft's is allowed by guardrails",
      "Whoever owns the endpoint gets the credential. A plan can't allow itself that, not even on this machine.",
      "allow: {endpoints: [\"https://localhost:8443\"]}"),
    rule(
      "CMC1291", "a secret that goes to such a cloud is allowed by guardrails",
      "So that a plan can't send a runner's secrets away.", "allow: {secrets: [{env: AZURE_CLIENT_SECRET}]}"),
    rule(
      "CMC1292", "a webhook that is told of migrations is allowed by guardrails",
      "So that a plan can't have the runner call whomever it likes, or use a secret as an address.",
      "allow: {webhooks: [\"https://hooks.example.com/erp\", {env: ONCALL_WEBHOOK}]}"),
  ]
}
