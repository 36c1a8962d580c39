internal import BlockModel
internal import MigrationModel
internal import YAMLTree

struct WindowShape: Sendable {
  static let window = WindowShape(
    "window", noun: "window",
    "Every week on `days`, from one time of day to another. A window that crosses midnight is written as two."
  )
  static let scheduled = WindowShape(
    "scheduledLevel", noun: "schedule", "An iQoS level for part of the week.", level: ("level", "The level then."))
  static let guarded = WindowShape(
    "guardrailLevel", noun: "iqos", "The highest iQoS level for part of the week.",
    level: ("atMost", "The highest level then."), hasEffect: true)
  let days: Field<[Weekday]>
  let from: Field<Int>
  let to: Field<Int>
  let timeZone: Field<String>
  /// Of `scheduledLevel` and `guardrailLevel` only.
  let level: Field<IQoSLevel>?
  /// Of `guardrailLevel` only.
  let effect: Field<GuardrailEffect>?
  let shape: Shape

  private init(
    _ name: String, noun: String, _ description: String, level levelKey: (name: String, description: String)? = nil,
    hasEffect: Bool = false
  ) {
    var table = FieldTable(name, noun: noun, description)
    days = table.add("days", .list(of: .choice), required: true, examples: ["[sat, sun]"], "Days of the week.")
    from = table.add("from", .timeOfDay, required: true, examples: ["\"02:00\""], "Start, 00:00 to 24:00.")
    to = table.add("to", .timeOfDay, required: true, examples: ["\"04:00\""], "End, 00:00 to 24:00.")
    timeZone = table.add(
      "timeZone", .timeZone, required: true, examples: ["Europe/Berlin"],
      """
      IANA time zone. When clocks go forward, times that don't exist are skipped; when they go back, times that come \
      twice count both times.
      """)
    level = levelKey.map { key in
      table.add(key.name, .choice, required: true, examples: ["relentless"], key.description)
    }
    effect =
      hasEffect ? table.add("effect", .choice, default: "deny", "`deny` stops the plan, `warn` says so.") : nil
    shape = Shape(table)
  }
}

struct IQoSShape: Sendable {
  static let the = IQoSShape()
  let level: Field<IQoSLevel>
  let schedule: Field<YAMLNode>
  let networkLimit: Field<UInt64>
  let latencyBound: Field<Double>
  let shape: Shape
  /// A level alone, or all of it.
  let schema: SchemaType

  private init() {
    var table = FieldTable("iqos", "How much of the available bandwidth migration may take.")
    level = table.add(
      "level", .choice, default: "moderate",
      "minimum 25 %, moderate 50 %, aggressive 75 % of what production leaves; relentless: no throttle.")
    schedule = table.add("schedule", .list(of: WindowShape.scheduled.shape), "Other levels at times of the week.")
    networkLimit = table.add(
      "networkLimit", .rate, examples: ["400 Mbit/s"], "The most that may cross the network, whatever the level.")
    latencyBound = table.add(
      "latencyBound", .percent(0.01...10, "1% to 1000%"), examples: ["20%"],
      "How much slower production may get before migration yields.")
    shape = Shape(table)
    schema = .either([.choice(IQoSLevel.allCases.map(\.rawValue)), .shape(shape)])
  }
}

struct ConnectionShape: Sendable {
  static let the = ConnectionShape()
  let listener: Field<Role>
  let port: Field<Int>
  let lanes: Field<Int>
  let address: Field<String>
  let shape: Shape
  let defaults: Shape

  private init() {
    var table = FieldTable("connection", "The link of the two agents.")
    listener = table.add(
      "listener", .choice, default: "destination", "Which end waits; the other one opens the connection.")
    port = table.add("port", .integer(1...65_535), default: "4996", "TCP port of the listener.")
    lanes = table.add("lanes", .integer(1...16), default: "2", "TCP connections for bulk data.")
    address = table.add(
      "address", .address, examples: ["erp-db-azure.internal"],
      "The listener as the opener sees it, resolved on the opener's host; the host's own address if omitted.")
    shape = Shape(table)
    var inherited = FieldTable("connectionDefaults", noun: "connection", "What every connection has.")
    inherited.copy(from: shape) { $0 != "address" }
    defaults = Shape(inherited)
  }
}

struct VolumeShape: Sendable {
  static let the = VolumeShape()
  let device: Field<String>
  let tracking: Field<Tracking>
  let disk: Field<YAMLNode>
  let destination: Field<YAMLNode>
  let destinationDevice: Field<String>
  let destinationShape: Shape
  let shape: Shape

  private init() {
    var inner = FieldTable("existingDestination", noun: "destination", "A device that exists at the destination.")
    destinationDevice = inner.add(
      "device", .path, required: true, examples: ["/dev/disk/by-id/wwn-0x5000c500a1b2c3d5"],
      "Block device or file on the destination host. Its content is replaced.")
    destinationShape = Shape(inner)
    var table = FieldTable("volume", "What is replicated: a source device and its destination.")
    device = table.add(
      "device", .path, required: true, examples: ["/dev/mapper/vg_erp-data"],
      "Block device (or file) on the source host that the application uses.")
    tracking = table.add(
      "tracking", .choice, default: "auto",
      "How changes are seen: `tap` in the I/O path, `checksum` by comparing (no cMotion), `auto` decides.")
    disk = table.add("disk", .shape(DiskShape.the.shape), "A managed disk: created, attached and grown as needed.")
    destination = table.add("destination", .shape(destinationShape), "An existing device, in place of a disk.")
    table.exactlyOneOf = [["disk", "destination"]]
    shape = Shape(table)
  }
}

struct HooksShape: Sendable {
  static let the = HooksShape()
  let host: Field<String>
  let run: Field<String>
  let timeout: Field<Double>
  let hook: Shape
  let points: [(point: HookPoint, field: Field<YAMLNode>)]
  let shape: Shape

  private init() {
    var inner = FieldTable("hook", "A command at a transition. A failure before the fence reverts; after it all stops.")
    host = inner.add("host", .name, "Where it runs: the source or the destination of the migration.")
    run = inner.add(
      "run", .text("a command", length: 1...16_384), required: true, examples: ["systemctl stop postgresql"],
      "For /bin/sh -c. `{device:VOLUME}` is the volume's device on that host, `{lun:VOLUME}` its LUN.")
    timeout = inner.add(
      "timeout", .duration(1...86_400, "1s to 24h"), default: "5m", examples: ["60s"], "After which it has failed.")
    hook = Shape(inner)
    var table = FieldTable("hooks", "Commands around the cutover.")
    let texts: [HookPoint: String] = [
      .stopApplication: "Stops the application, on the source.",
      .unmount: "Unmounts the file systems, on the source.",
      .mount: "Mounts the file systems, on the destination.",
      .startApplication: "Starts the application, on the destination.",
      .healthCheck: "Succeeds when the application is well, where it runs.",
    ]
    var points: [(HookPoint, Field<YAMLNode>)] = []
    for point in HookPoint.allCases {
      points.append((point, table.add(point.rawValue, .shape(hook), texts[point] ?? "")))
    }
    self.points = points
    shape = Shape(table)
  }
}

struct CutoverShape: Sendable {
  static let the = CutoverShape()
  let phase: Field<Phase>
  let approval: Field<Cutover.Approval>
  let windows: Field<YAMLNode>
  let confirmWithin: Field<Double>
  let verify: Field<Cutover.Verification>
  let hooks: Field<YAMLNode>
  let shape: Shape
  let defaults: Shape

  private init() {
    var table = FieldTable("cutover", "Where the migration should be, and under which conditions it gets there.")
    phase = table.add(
      "phase", .choice, required: true, examples: ["synchronized"],
      "The line that people review: prepared, synchronized, cmotion, finalized (one-way), retired.")
    approval = table.add(
      "approval", .choice, default: "manual",
      "`manual`: the one-way step waits for `cmcplan approve`; `automatic`: the reviewed phase is enough.")
    windows = table.add(
      "windows", .list(of: WindowShape.window.shape, minimum: 1), "When cMotion and finalize may start.")
    confirmWithin = table.add(
      "confirmWithin", .duration(1...604_800, "1s to 7d"), examples: ["30m"],
      "The agents revert cMotion by themselves unless it is confirmed in this time.")
    verify = table.add(
      "verify", .choice, default: "full",
      "What is proven identical before finalize: `full`, `changed` since the initial synchronization, or `none`.")
    hooks = table.add("hooks", .shape(HooksShape.the.shape), "Commands around the cutover.")
    shape = Shape(table)
    var inherited = FieldTable("cutoverDefaults", noun: "cutover", "What every cutover has that doesn't say otherwise.")
    inherited.copy(from: shape) { $0 != "phase" && $0 != "hooks" }
    defaults = Shape(inherited)
  }
}

struct MigrationShape: Sendable {
  static let the = MigrationShape()
  let description: Field<String>
  let source: Field<String>
  let destination: Field<String>
  let integration: Field<String>
  let connection: Field<YAMLNode>
  let volumes: Field<YAMLNode>
  let iqos: Field<YAMLNode>
  let linkLossTimeout: Field<Double>
  let resync: Field<YAMLNode>
  let resyncInterval: Field<Double>
  let cutover: Field<YAMLNode>
  let resyncShape: Shape
  let shape: Shape

  private init() {
    var inner = FieldTable("resync", "When changes are copied.")
    resyncInterval = inner.add(
      "interval", .duration(1...2_592_000, "1s to 30d"), default: "15m", "Time between resynchronizations.")
    resyncShape = Shape(inner)
    var table = FieldTable("migration", "One host-to-host pipeline. All of its volumes cut over together.")
    description = table.add("description", .text(), "For people.")
    source = table.add("source", .name, required: true, examples: ["erp-db"], "Host that the data leaves.")
    destination = table.add(
      "destination", .name, required: true, examples: ["erp-db-azure"], "Host that the data goes to; may be the source."
    )
    integration = table.add("integration", .name, "Where disks come from; the only integration if there is one.")
    connection = table.add("connection", .shape(ConnectionShape.the.shape), "The link of the two agents.")
    volumes = table.add("volumes", .named(VolumeShape.the.shape), required: true, "What is replicated, by name.")
    iqos = table.add("iqos", .node(IQoSShape.the.schema), "How much bandwidth migration may take.")
    linkLossTimeout = table.add(
      "linkLossTimeout", .duration(1...300, "1s to 5m"), default: "5s",
      "In cMotion, how long writes wait for a lost peer before the source goes on alone.")
    resync = table.add("resync", .shape(resyncShape), "When changes are copied.")
    cutover = table.add("cutover", .shape(CutoverShape.the.shape), required: true, "Where the migration should be.")
    shape = Shape(table)
  }
}

extension ValueType where Value == Int {
  static let timeOfDay = ValueType(
    schema: .pattern("^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$"), noun: "a time of day such as \"02:00\"",
    parse: Quantities.timeOfDay)
}
