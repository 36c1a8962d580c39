package import Diagnostics

/// What the codes of the way to hosts mean: deploying, then SSH's own. In the order of the codes.
package enum HostExplanations {
  package static let deploying: [CodeExplanation] = [
    .init(
      "CMC3201", "a command can be run on a host", "The program that leads there can't be started.", "cmcplan doctor"),
    .init(
      "CMC3202", "cmcagent rpc can be started on a host", "It is the way to the agent that runs there.",
      "cmcplan agent list"),
    .init(
      DeployCode.unanswered, "an agent that was started answers", "It ended at once, or hangs.", "agent.log on the host"
    ),
    .init(
      DeployCode.scriptFailed, "what has to be done on a host can be done", "The message has the host's words.",
      "cmcplan doctor"),
    .init(
      "CMC3205", "a host finds the address of its peer", "Names are resolved where they are used.",
      "connection: {address: 198.51.100.20}"),
    .init(
      "CMC3206", "the agent to install is there", "It lies beside cmcplan, or where CMCPLAN_AGENT says.",
      "export CMCPLAN_AGENT=/opt/cmcplan/cmcagent"),
    .init(
      DeployCode.upgradeFailed, "an upgraded agent runs", "It didn't; the message says what became of the former one.",
      "cmcplan agent list"),
    .init(
      "CMC3208", "the agent is made for the host's processor", "Another one wouldn't start.",
      "export CMCPLAN_AGENT=…   # one that is made for it"),
    .init(
      DeployCode.stays, "an agent that somebody needs stays", "Sessions, a tap or a mount are there.",
      "cmcplan agent list   # retire, or agent remove --force to give sessions up"),
    .init(
      DeployCode.scriptLate, "a script on a host ends in its time", "What it did isn't known; asked again it goes on.",
      "cmcplan apply"),
    .init(
      DeployCode.upgradeUnknown, "the end of an upgrade is seen",
      "The connection was lost; nothing is taken back on a guess.",
      "cmcplan agent list   # shows which agent runs"),
  ]

  package static let ssh: [CodeExplanation] = [
    .init(
      SSHFault.unknownHostKey, "a host's key is known before anything is sent to it",
      "Nobody else may answer in its place.", "the message has the fingerprint, and the command that accepts it"),
    .init(
      SSHFault.changedHostKey, "a host's key is the one that was known",
      "It was installed anew, or another one answers.",
      "ssh-keygen -R HOST   # once the new key was compared on the host itself"),
    .init(
      SSHFault.notAuthenticated, "a host lets us in with no question asked", "Keys, certificates or user aren't taken.",
      "ssh -o BatchMode=yes migrate@192.0.2.10 true"),
    .init(
      SSHFault.notResolved, "a host's name has an address here", "It is spelt otherwise, or another DNS knows it.",
      "address: 192.0.2.10"),
    .init(
      SSHFault.unreachable, "a host can be reached", "No route, or a firewall drops packets.", "ssh: {jump: bastion}"),
    .init(
      SSHFault.refused, "a host has an SSH server at this port", "Nothing listens there, or a firewall refuses.",
      "ssh: {port: 2222}"),
    .init(
      SSHFault.broken, "an SSH connection lasts", "It broke; what ran goes on or is found by the next run.",
      "cmcplan apply"),
    .init(
      SSHFault.badConfiguration, "OpenSSH accepts its configuration",
      "Your ~/.ssh/config, or CMCPLAN_SSH_CONFIG, applies.",
      "ssh -G HOST"),
    .init(SSHFault.failed, "ssh does what it is asked", "The message has its own words.", "ssh -v HOST true"),
    .init(
      SSHFault.noSudo, "with sudo: true the user may use sudo without a password", "An agent runs as root.",
      "migrate ALL=(ALL) NOPASSWD: ALL   # in /etc/sudoers.d"),
    .init(SSHFault.noShell, "the user's shell runs commands", "Its profile prints or ends.", "ssh HOST true; echo $?"),
    .init(
      SSHFault.noClient, "an OpenSSH client is on this machine", "It leads to the hosts.",
      "apt-get install openssh-client"),
    .init(
      SSHFault.noRuntimeDirectory, "there is a short directory for SSH's sockets",
      "A socket's path has about 100 characters at most.", "export XDG_RUNTIME_DIR=/run/user/$(id -u)"),
    .init(
      SSHFault.crowded, "only so much goes over one connection at once", "A server refuses more.",
      "cmcplan apply --parallelism 4"),
    .init(SSHFault.stopping, "a login was given up because the run stops", "Nothing was done there.", "cmcplan apply"),
  ]
}
