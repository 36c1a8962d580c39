// swift-tools-version: 6.2
import PackageDescription

// The module graph of the product. An edge here is a permission: a module that has no edge to LinuxPlatform
// can make no syscall, one without Foundation in its sources can ship in the agent. See Sources/README.md.

let strict: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("InternalImportsByDefault"),
]

let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")

/// In debug builds too, for what thousands of simulated runs of a test execute, or plans of a hundred thousand volumes.
let simulated: [SwiftSetting] = [.unsafeFlags(["-O"], .when(configuration: .debug))]

func room(
  _ floor: String, _ name: String, _ dependencies: [Target.Dependency] = [], optimized: Bool = false
) -> Target {
  .target(
    name: name, dependencies: dependencies, path: "Sources/\(floor)/\(name)", exclude: ["README.md"],
    swiftSettings: strict + (optimized ? simulated : []))
}

func program(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .executableTarget(
    name: name, dependencies: dependencies, path: "Sources/Programs/\(name)", swiftSettings: strict)
}

func tests(
  _ name: String, _ dependencies: [Target.Dependency], exclude: [String] = [], optimized: Bool = false
) -> Target {
  .testTarget(
    name: name, dependencies: dependencies, path: "Tests/\(name)", exclude: exclude,
    swiftSettings: strict + (optimized ? simulated : []))
}

func systemLibrary(_ name: String, _ pkgConfig: String? = nil, _ package: String? = nil) -> Target {
  .systemLibrary(
    name: name, path: "Sources/C/\(name)", pkgConfig: pkgConfig, providers: package.map { [.apt([$0])] })
}

let package = Package(
  name: "cmcplan",
  products: [
    .executable(name: "cmcplan", targets: ["cmcplan"]),
    .executable(name: "cmcagent", targets: ["cmcagent"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
    .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.0"),
  ],
  targets: [
    systemLibrary("CYAML", "yaml-0.1", "libyaml-dev"),
    systemLibrary("CCurl", "libcurl", "libcurl4-openssl-dev"),
    systemLibrary("COpenSSL", "openssl", "libssl-dev"),
    systemLibrary("CLZ4", "liblz4", "liblz4-dev"),
    systemLibrary("CFUSE"),
    systemLibrary("CLinux"),

    room("Base", "Diagnostics", optimized: true),
    room("Base", "BlockModel", optimized: true),
    room("Base", "Seams", ["BlockModel"], optimized: true),
    room("Base", "LinuxPlatform", ["CLinux", "Seams", "BlockModel"]),

    room("DataPlane", "AgentProtocol", ["BlockModel"], optimized: true),
    room("DataPlane", "H2HProtocol", ["CLZ4", "BlockModel"], optimized: true),
    room("DataPlane", "TLSChannel", ["COpenSSL", "BlockModel", "Seams", "LinuxPlatform"]),
    room("DataPlane", "Replication", ["BlockModel", "Seams", "H2HProtocol"], optimized: true),
    room("DataPlane", "NBDServer", ["BlockModel", "Seams"]),
    room("DataPlane", "VolumeTap", ["CFUSE", "BlockModel", "Seams", "LinuxPlatform", "NBDServer"]),
    room(
      "DataPlane", "AgentService",
      [
        "AgentProtocol", "H2HProtocol", "TLSChannel", "Replication", "NBDServer", "VolumeTap", "BlockModel", "Seams",
        "LinuxPlatform",
      ]),

    room("ControlPlane", "YAMLTree", ["CYAML", "Diagnostics"], optimized: true),
    room("ControlPlane", "MigrationModel", ["BlockModel", "Diagnostics"], optimized: true),
    room("ControlPlane", "PlanReading", ["YAMLTree", "MigrationModel", "BlockModel", "Diagnostics"], optimized: true),
    room(
      "ControlPlane", "Planning", ["MigrationModel", "AgentProtocol", "BlockModel", "Diagnostics"], optimized: true),
    room(
      "ControlPlane", "Reconciling",
      ["Planning", "MigrationModel", "AgentProtocol", "BlockModel", "Seams", "Diagnostics"], optimized: true),
    room(
      "ControlPlane", "ARMClient",
      [
        "CCurl", "COpenSSL", "Reconciling", "Planning", "MigrationModel", "BlockModel", "Seams", "LinuxPlatform",
        "Diagnostics",
      ]),
    room(
      "ControlPlane", "AgentClient",
      ["AgentProtocol", "Reconciling", "MigrationModel", "BlockModel", "Seams", "LinuxPlatform", "Diagnostics"]),
    room(
      "ControlPlane", "SSHDeploy",
      [
        "AgentProtocol", "Reconciling", "Planning", "MigrationModel", "BlockModel", "Seams", "LinuxPlatform",
        "Diagnostics",
      ]),
    room(
      "ControlPlane", "Rendering",
      ["Planning", "Reconciling", "MigrationModel", "AgentProtocol", "BlockModel", "Seams", "Diagnostics"],
      optimized: true),
    room(
      "ControlPlane", "PlanCommands",
      [
        argumentParser, "COpenSSL", "YAMLTree", "PlanReading", "Planning", "Reconciling", "ARMClient", "AgentClient",
        "SSHDeploy",
        "Rendering",
        "MigrationModel", "AgentProtocol", "BlockModel", "Seams", "LinuxPlatform", "Diagnostics",
      ]),

    room("Rehearsal", "Simulation", ["Replication", "H2HProtocol", "BlockModel", "Seams"], optimized: true),
    room(
      "Rehearsal", "ARMEmulator",
      [
        argumentParser, "COpenSSL", "BlockModel", "Seams", "LinuxPlatform",
        .product(name: "Hummingbird", package: "hummingbird"),
        .product(name: "HummingbirdTLS", package: "hummingbird"),
      ]),

    program("cmcplan", [argumentParser, "PlanCommands", "ARMEmulator"]),
    program("cmcagent", ["AgentService"]),

    .target(
      name: "TestSupport", dependencies: ["BlockModel", "Seams"], path: "Tests/TestSupport",
      swiftSettings: strict + simulated),
    tests("LinuxPlatformTests", ["LinuxPlatform", "Seams", "BlockModel", "TestSupport"]),
    tests("TLSChannelTests", ["TLSChannel", "LinuxPlatform", "Seams", "BlockModel", "TestSupport"]),
    tests("AgentProtocolTests", ["AgentProtocol", "BlockModel"]),
    tests("H2HProtocolTests", ["H2HProtocol", "BlockModel", "TestSupport"]),
    tests("ReplicationTests", ["Replication", "H2HProtocol", "Seams", "BlockModel", "TestSupport"]),
    .executableTarget(
      name: "TapHarness", dependencies: ["VolumeTap", "NBDServer", "LinuxPlatform", "Seams", "BlockModel"],
      path: "Tests/TapHarness", swiftSettings: strict),
    tests(
      "NBDServerTests", ["NBDServer", "VolumeTap", "TapHarness", "LinuxPlatform", "Seams", "BlockModel", "TestSupport"]),
    tests(
      "VolumeTapTests",
      ["VolumeTap", "TapHarness", "NBDServer", "LinuxPlatform", "CFUSE", "Seams", "BlockModel", "TestSupport"]),
    tests(
      "AgentServiceTests",
      [
        "AgentService", "AgentProtocol", "Replication", "H2HProtocol", "TLSChannel", "NBDServer", "VolumeTap",
        "Reconciling", "Planning", "MigrationModel", "Diagnostics", "LinuxPlatform", "Seams", "BlockModel",
        "TestSupport",
      ]),
    tests("YAMLTreeTests", ["YAMLTree", "Diagnostics"]),
    tests(
      "PlanReadingTests", ["PlanReading", "YAMLTree", "MigrationModel", "BlockModel", "Diagnostics"],
      exclude: ["validate.py"]),
    tests(
      "PlanningTests", ["Planning", "MigrationModel", "AgentProtocol", "BlockModel", "Diagnostics", "TestSupport"]),
    tests(
      "ReconcilingTests",
      [
        "Reconciling", "Planning", "MigrationModel", "AgentProtocol", "BlockModel", "Seams", "Diagnostics",
        "H2HProtocol", "Replication", "Simulation", "TestSupport",
      ], optimized: true),
    tests(
      "RenderingTests",
      ["Rendering", "Planning", "Reconciling", "MigrationModel", "AgentProtocol", "BlockModel", "Diagnostics"]),
    tests(
      "PlanCommandsTests",
      [
        argumentParser, "PlanCommands", "SSHDeploy", "Rendering", "Reconciling", "Seams", "Diagnostics", "Planning",
        "MigrationModel", "AgentProtocol", "BlockModel",
      ]),
    tests(
      "ARMTests",
      [
        "ARMClient", "ARMEmulator", "Reconciling", "Planning", "MigrationModel", "LinuxPlatform", "BlockModel", "Seams",
        "TestSupport",
      ]),
    tests(
      "HostTests",
      [
        "AgentClient", "SSHDeploy", "AgentProtocol", "Reconciling", "Planning", "MigrationModel", "LinuxPlatform",
        "BlockModel",
        "Seams", "TestSupport",
      ]),
    tests(
      "SimulationTests",
      [
        "Simulation", "Replication", "H2HProtocol", "Planning", "Reconciling", "MigrationModel", "AgentProtocol",
        "BlockModel", "Seams", "TestSupport",
      ], exclude: ["README.md"]),
    tests(
      "GoldenTests",
      [
        "PlanReading", "Planning", "Rendering", "Reconciling", "MigrationModel", "AgentProtocol", "BlockModel",
        "Diagnostics",
      ], exclude: ["cases"]),
    tests("TidyTests", []),
  ]
)
