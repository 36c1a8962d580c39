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
      InitCommand.self, ValidateCommand.self, FmtCommand.self, SchemaCommand.self, PlanCommand.self, ShowCommand.self,
      ApplyCommand.self, StatusCommand.self, ReadyCommand.self, HistoryCommand.self, ReplayCommand.self,
      ReportCommand.self,
      SupportBundleCommand.self, ApproveCommand.self, ConfirmCommand.self, PauseCommand.self, ResumeCommand.self,
      RevertCommand.self, VerifyCommand.self, MapCommand.self, ObserveCommand.self, AgentCommand.self,
      DiscoverCommand.self, DoctorCommand.self, DestroyCommand.self, PruneCommand.self, EmulatorCommand.self,
      VersionCommand.self,
    ])
}
