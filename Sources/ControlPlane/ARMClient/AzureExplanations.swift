package import Diagnostics

/// What the codes of the way to Azure mean. In the order of the codes.
package enum AzureExplanations {
  private typealias Code = AzureFaultCode

  package static let all: [CodeExplanation] = [
    .init(
      Code.secretMissing, "a secret is where the plan says", "The variable isn't set, or the file can't be read.",
      "export AZURE_CLIENT_SECRET=…"),
    .init(
      Code.signInRefused, "Azure takes the credential", "Secret, client or tenant are wrong, or the secret expired.",
      "cmcplan doctor   # says which credential it is, and why not the others"),
    .init(
      Code.forbidden, "the credential may do what was asked", "Azure's message names the action.",
      "examples/azure/role.json   # the smallest role that is enough"),
    .init(
      Code.unreachable, "Azure answers", "Network, proxy or name resolution are in the way.",
      "curl -sv https://management.azure.com/   # the same proxy variables apply"),
    .init(
      Code.untrustedServer, "the server's certificate is trusted here", "Somebody in between may read along.",
      "cloud: {authority: …, resourceManager: …, certificateAuthorityFile: ca.pem}"),
    .init(
      Code.refused, "Azure accepts the request", "Its own code and words are in the message.",
      "cmcplan plan   # shows the line of the plan that it is about"),
    .init(
      Code.throttled, "Azure takes more requests", "It asked to wait; that was waited out as long as a run waits.",
      "cmcplan apply   # goes on later"),
    .init(
      Code.operationFailed, "an operation that Azure accepted ends well",
      "It failed there; its words are in the message.",
      "cmcplan apply   # tries it again"),
    .init(
      Code.deadlinePassed, "an operation ends in its time", "It may still end by itself.",
      "cmcplan apply   # finds it and goes on"),
    .init(
      Code.notUnderstood, "Azure's answer has the form that it is documented to have",
      "A proxy may have answered instead.",
      "the message has the beginning of the answer"),
    .init(
      Code.foreignDisk, "a disk that isn't this plan's is never touched", "Its tags are others', or none.",
      "disk: {name: erp-data-2}"),
    .init(
      Code.resourceMissing, "what was named exists", "It was deleted, or another subscription is meant.",
      "az disk show --ids ID"),
    .init(
      Code.diskElsewhere, "a disk is attached to one machine only", "Another one has it.",
      "az disk show --ids ID --query managedBy"),
    .init(
      Code.noFreeLUN, "the machine's size has room for the disks", "All its LUNs are taken.",
      "az vm resize   # or detach what nobody needs"),
    .init(
      Code.attachContended, "nobody else changes the machine at the same time",
      "Azure refuses all but one; it was tried again.",
      "cmcplan apply   # once the other change is through"),
    .init(
      Code.invalidReference, "a resource id is complete", "It can't be told what is meant.",
      "/subscriptions/…/resourceGroups/…/providers/Microsoft.Compute/disks/NAME"),
    .init(
      Code.unsafeEndpoint, "secrets go over https, to whom the plan names", "A redirect must not lead them elsewhere.",
      "authority: https://login.example.com"),
    .init(
      Code.noCredential, "there is a credential", "None of the usual places has one.",
      "az login   # or credential: in the integration"),
    .init(
      Code.cancelled, "a call was given up because the run stops", "What it began may go on in Azure.",
      "cmcplan apply   # finds it and goes on"),
  ]
}
