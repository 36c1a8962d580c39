import ARMEmulator
import ArgumentParser
import PlanCommands

@main
struct Main: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cmcplan",
    abstract: "Live block migration, host to host, into Azure, from a plan in YAML.",
    version: VersionCommand.version,
    subcommands: [
      ValidateCommand.self, PlanCommand.self, ApplyCommand.self, StatusCommand.self, ApproveCommand.self,
      ConfirmCommand.self, PauseCommand.self, ResumeCommand.self, RevertCommand.self, ObserveCommand.self,
      AgentCommand.self, DiscoverCommand.self, DoctorCommand.self, EmulatorCommand.self, VersionCommand.self,
    ])
}
