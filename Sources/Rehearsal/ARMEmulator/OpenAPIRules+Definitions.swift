// Made by Tests/EndToEndTests/azure/make-openapi-rules from the OpenAPI files of Azure/azure-rest-api-specs (MIT,
// Copyright (c) Microsoft Corporation), disks of 2024-03-02 and machines of 2024-07-01. A test makes it again.
extension OpenAPIRules {
  /// A definition a line: `Name: member!type …`. `!` required, `-` written by the service only. Types: `s` string,
  /// `i` integer, `n` number, `b` boolean, `o` any value, `>Name` an object, `[type]` a list, `{type}` a map, `e(a,b)`
  /// one of these texts.
  static let definitions = """
    AdditionalCapabilities: ultraSSDEnabled:b hibernationEnabled:b
    AdditionalUnattendContent: passName:e(OobeSystem) componentName:e(Microsoft-Windows-Shell-Setup) settingName:e(AutoLogon,FirstLogonCommands) content:s
    ApiEntityReference: id:s
    ApiError: details:[>ApiErrorBase] innererror:>InnerError code:s target:s message:s
    ApiErrorBase: code:s target:s message:s
    ApplicationProfile: galleryApplications:[>VMGalleryApplication]
    AttachDetachDataDisksRequest: dataDisksToAttach:[>DataDisksToAttach] dataDisksToDetach:[>DataDisksToDetach]
    AvailablePatchSummary: status-s assessmentActivityId-s rebootPending-b criticalAndSecurityPatchCount-i otherPatchCount-i startTime-s lastModifiedTime-s error->ApiError
    BillingProfile: maxPrice:n
    BootDiagnostics: enabled:b storageUri:s
    BootDiagnosticsInstanceView: consoleScreenshotBlobUri-s serialConsoleLogBlobUri-s status->InstanceViewStatus
    CapacityReservationProfile: capacityReservationGroup:>SubResource
    CreationData: createOption!s storageAccountId:s imageReference:>ImageDiskReference galleryImageReference:>ImageDiskReference sourceUri:s sourceResourceId:s sourceUniqueId-s uploadSizeBytes:i logicalSectorSize:i securityDataUri:s performancePlus:b elasticSanResourceId:s provisionedBandwidthCopySpeed:s
    DataDisk: lun!i name:s vhd:>VirtualHardDisk image:>VirtualHardDisk caching:e(None,ReadOnly,ReadWrite) writeAcceleratorEnabled:b createOption!s diskSizeGB:i managedDisk:>ManagedDiskParameters sourceResource:>ApiEntityReference toBeDetached:b diskIOPSReadWrite-i diskMBpsReadWrite-i detachOption:s deleteOption:s
    DataDisksToAttach: diskId!s lun:i caching:e(None,ReadOnly,ReadWrite) deleteOption:s diskEncryptionSet:>DiskEncryptionSetParameters writeAcceleratorEnabled:b
    DataDisksToDetach: diskId!s detachOption:s
    DiagnosticsProfile: bootDiagnostics:>BootDiagnostics
    DiffDiskSettings: option:s placement:s
    Disk: id-s name-s type-s location!s tags:{s} managedBy-s managedByExtended-[s] sku:>DiskSku zones:[s] extendedLocation:>ExtendedLocation properties:>DiskProperties
    DiskEncryptionSetParameters: id:s
    DiskEncryptionSettings: diskEncryptionKey:>KeyVaultSecretReference keyEncryptionKey:>KeyVaultKeyReference enabled:b
    DiskInstanceView: name:s encryptionSettings:[>DiskEncryptionSettings] statuses:[>InstanceViewStatus]
    DiskProperties: timeCreated-s osType:e(Windows,Linux) hyperVGeneration:s purchasePlan:>PurchasePlan supportedCapabilities:>SupportedCapabilities creationData!>CreationData diskSizeGB:i diskSizeBytes-i uniqueId-s encryptionSettingsCollection:>EncryptionSettingsCollection provisioningState-s diskIOPSReadWrite:i diskMBpsReadWrite:i diskIOPSReadOnly:i diskMBpsReadOnly:i diskState:s encryption:>Encryption maxShares:i shareInfo-[>ShareInfoElement] networkAccessPolicy:s diskAccessId:s burstingEnabledTime-s tier:s burstingEnabled:b propertyUpdatesInProgress->PropertyUpdatesInProgress supportsHibernation:b securityProfile:>DiskSecurityProfile completionPercent:n publicNetworkAccess:s dataAccessAuthMode:s optimizedForFrequentAttach:b LastOwnershipUpdateTime-s
    DiskSecurityProfile: securityType:s secureVMDiskEncryptionSetId:s
    DiskSku: name:s tier-s
    DiskUpdate: properties:>DiskUpdateProperties tags:{s} sku:>DiskSku
    DiskUpdateProperties: osType:e(Windows,Linux) diskSizeGB:i encryptionSettingsCollection:>EncryptionSettingsCollection diskIOPSReadWrite:i diskMBpsReadWrite:i diskIOPSReadOnly:i diskMBpsReadOnly:i maxShares:i encryption:>Encryption networkAccessPolicy:s diskAccessId:s tier:s burstingEnabled:b purchasePlan:>PurchasePlan supportedCapabilities:>SupportedCapabilities propertyUpdatesInProgress->PropertyUpdatesInProgress supportsHibernation:b publicNetworkAccess:s dataAccessAuthMode:s optimizedForFrequentAttach:b
    Encryption: diskEncryptionSetId:s type:s
    EncryptionIdentity: userAssignedIdentityResourceId:s
    EncryptionSettingsCollection: enabled!b encryptionSettings:[>EncryptionSettingsElement] encryptionSettingsVersion:s
    EncryptionSettingsElement: diskEncryptionKey:>KeyVaultAndSecretReference keyEncryptionKey:>KeyVaultAndKeyReference
    EventGridAndResourceGraph: enable:b
    ExtendedLocation: name:s type:s
    HardwareProfile: vmSize:s vmSizeProperties:>VMSizeProperties
    ImageDiskReference: id:s sharedGalleryImageId:s communityGalleryImageId:s lun:i
    ImageReference: id:s publisher:s offer:s sku:s version:s exactVersion-s sharedGalleryImageId:s communityGalleryImageId:s
    InnerError: exceptiontype:s errordetail:s
    InstanceViewStatus: code:s level:e(Info,Warning,Error) displayStatus:s message:s time:s
    KeyVaultAndKeyReference: sourceVault!>SourceVault keyUrl!s
    KeyVaultAndSecretReference: sourceVault!>SourceVault secretUrl!s
    KeyVaultKeyReference: keyUrl!s sourceVault!>SubResource
    KeyVaultSecretReference: secretUrl!s sourceVault!>SubResource
    LastPatchInstallationSummary: status-s installationActivityId-s maintenanceWindowExceeded-b notSelectedPatchCount-i excludedPatchCount-i pendingPatchCount-i installedPatchCount-i failedPatchCount-i startTime-s lastModifiedTime-s error->ApiError
    LinuxConfiguration: disablePasswordAuthentication:b ssh:>SshConfiguration provisionVMAgent:b patchSettings:>LinuxPatchSettings enableVMAgentPlatformUpdates:b
    LinuxPatchSettings: patchMode:s assessmentMode:s automaticByPlatformSettings:>LinuxVMGuestPatchAutomaticByPlatformSettings
    LinuxVMGuestPatchAutomaticByPlatformSettings: rebootSetting:s bypassPlatformSafetyChecksOnUserSchedule:b
    MaintenanceRedeployStatus: isCustomerInitiatedMaintenanceAllowed:b preMaintenanceWindowStartTime:s preMaintenanceWindowEndTime:s maintenanceWindowStartTime:s maintenanceWindowEndTime:s lastOperationResultCode:e(None,RetryLater,MaintenanceAborted,MaintenanceCompleted) lastOperationMessage:s
    ManagedDiskParameters: id:s storageAccountType:s diskEncryptionSet:>DiskEncryptionSetParameters securityProfile:>VMDiskSecurityProfile
    NetworkInterfaceReference: id:s properties:>NetworkInterfaceReferenceProperties
    NetworkInterfaceReferenceProperties: primary:b deleteOption:s
    NetworkProfile: networkInterfaces:[>NetworkInterfaceReference] networkApiVersion:s networkInterfaceConfigurations:[>VirtualMachineNetworkInterfaceConfiguration]
    OSDisk: osType:e(Windows,Linux) encryptionSettings:>DiskEncryptionSettings name:s vhd:>VirtualHardDisk image:>VirtualHardDisk caching:e(None,ReadOnly,ReadWrite) writeAcceleratorEnabled:b diffDiskSettings:>DiffDiskSettings createOption!s diskSizeGB:i managedDisk:>ManagedDiskParameters deleteOption:s
    OSImageNotificationProfile: notBeforeTimeout:s enable:b
    OSProfile: computerName:s adminUsername:s adminPassword:s customData:s windowsConfiguration:>WindowsConfiguration linuxConfiguration:>LinuxConfiguration secrets:[>VaultSecretGroup] allowExtensionOperations:b requireGuestProvisionSignal:b
    PatchSettings: patchMode:s enableHotpatching:b assessmentMode:s automaticByPlatformSettings:>WindowsVMGuestPatchAutomaticByPlatformSettings
    Plan: name:s publisher:s product:s promotionCode:s
    PropertyUpdatesInProgress: targetTier:s
    ProxyAgentSettings: enabled:b mode:s keyIncarnationId:i
    PublicIPAddressSku: name:s tier:s
    PurchasePlan: name!s publisher!s product!s promotionCode:s
    ScheduledEventsAdditionalPublishingTargets: eventGridAndResourceGraph:>EventGridAndResourceGraph
    ScheduledEventsPolicy: userInitiatedRedeploy:>UserInitiatedRedeploy userInitiatedReboot:>UserInitiatedReboot scheduledEventsAdditionalPublishingTargets:>ScheduledEventsAdditionalPublishingTargets
    ScheduledEventsProfile: terminateNotificationProfile:>TerminateNotificationProfile osImageNotificationProfile:>OSImageNotificationProfile
    SecurityProfile: uefiSettings:>UefiSettings encryptionAtHost:b securityType:s encryptionIdentity:>EncryptionIdentity proxyAgentSettings:>ProxyAgentSettings
    ShareInfoElement: vmUri-s
    SourceVault: id:s
    SshConfiguration: publicKeys:[>SshPublicKey]
    SshPublicKey: path:s keyData:s
    StorageProfile: imageReference:>ImageReference osDisk:>OSDisk dataDisks:[>DataDisk] diskControllerType:s
    SubResource: id:s
    SupportedCapabilities: diskControllerTypes:s acceleratedNetwork:b architecture:s
    TerminateNotificationProfile: notBeforeTimeout:s enable:b
    UefiSettings: secureBootEnabled:b vTpmEnabled:b
    UserInitiatedReboot: automaticallyApprove:b
    UserInitiatedRedeploy: automaticallyApprove:b
    VMDiskSecurityProfile: securityEncryptionType:s diskEncryptionSet:>DiskEncryptionSetParameters
    VMGalleryApplication: tags:s order:i packageReferenceId!s configurationReference:s treatFailureAsDeploymentFailure:b enableAutomaticUpgrade:b
    VMSizeProperties: vCPUsAvailable:i vCPUsPerCore:i
    VaultCertificate: certificateUrl:s certificateStore:s
    VaultSecretGroup: sourceVault:>SubResource vaultCertificates:[>VaultCertificate]
    VirtualHardDisk: uri:s
    VirtualMachine: id-s name-s type-s location!s tags:{s} plan:>Plan properties:>VirtualMachineProperties resources-[>VirtualMachineExtension] identity:>VirtualMachineIdentity zones:[s] extendedLocation:>ExtendedLocation managedBy-s etag-s
    VirtualMachineAgentInstanceView: vmAgentVersion:s extensionHandlers:[>VirtualMachineExtensionHandlerInstanceView] statuses:[>InstanceViewStatus]
    VirtualMachineExtension: location:s id-s name-s type-s tags:{s} properties:>VirtualMachineExtensionProperties
    VirtualMachineExtensionHandlerInstanceView: type:s typeHandlerVersion:s status:>InstanceViewStatus
    VirtualMachineExtensionInstanceView: name:s type:s typeHandlerVersion:s substatuses:[>InstanceViewStatus] statuses:[>InstanceViewStatus]
    VirtualMachineExtensionProperties: forceUpdateTag:s publisher:s type:s typeHandlerVersion:s autoUpgradeMinorVersion:b enableAutomaticUpgrade:b settings:o protectedSettings:o provisioningState-s instanceView:>VirtualMachineExtensionInstanceView suppressFailures:b protectedSettingsFromKeyVault:>KeyVaultSecretReference provisionAfterExtensions:[s]
    VirtualMachineHealthStatus: status->InstanceViewStatus
    VirtualMachineIdentity: principalId-s tenantId-s type:e(SystemAssigned,UserAssigned,SystemAssigned, UserAssigned,None) userAssignedIdentities:{o}
    VirtualMachineInstanceView: platformUpdateDomain:i platformFaultDomain:i computerName:s osName:s osVersion:s hyperVGeneration:s rdpThumbPrint:s vmAgent:>VirtualMachineAgentInstanceView maintenanceRedeployStatus:>MaintenanceRedeployStatus disks:[>DiskInstanceView] extensions:[>VirtualMachineExtensionInstanceView] vmHealth->VirtualMachineHealthStatus bootDiagnostics:>BootDiagnosticsInstanceView assignedHost-s statuses:[>InstanceViewStatus] patchStatus:>VirtualMachinePatchStatus isVMInStandbyPool-b
    VirtualMachineIpTag: ipTagType:s tag:s
    VirtualMachineNetworkInterfaceConfiguration: name!s properties:>VirtualMachineNetworkInterfaceConfigurationProperties
    VirtualMachineNetworkInterfaceConfigurationProperties: primary:b deleteOption:s enableAcceleratedNetworking:b disableTcpStateTracking:b enableFpga:b enableIPForwarding:b networkSecurityGroup:>SubResource dnsSettings:>VirtualMachineNetworkInterfaceDnsSettingsConfiguration ipConfigurations![>VirtualMachineNetworkInterfaceIPConfiguration] dscpConfiguration:>SubResource auxiliaryMode:s auxiliarySku:s
    VirtualMachineNetworkInterfaceDnsSettingsConfiguration: dnsServers:[s]
    VirtualMachineNetworkInterfaceIPConfiguration: name!s properties:>VirtualMachineNetworkInterfaceIPConfigurationProperties
    VirtualMachineNetworkInterfaceIPConfigurationProperties: subnet:>SubResource primary:b publicIPAddressConfiguration:>VirtualMachinePublicIPAddressConfiguration privateIPAddressVersion:s applicationSecurityGroups:[>SubResource] applicationGatewayBackendAddressPools:[>SubResource] loadBalancerBackendAddressPools:[>SubResource]
    VirtualMachinePatchStatus: availablePatchSummary:>AvailablePatchSummary lastPatchInstallationSummary:>LastPatchInstallationSummary configurationStatuses-[>InstanceViewStatus]
    VirtualMachineProperties: hardwareProfile:>HardwareProfile scheduledEventsPolicy:>ScheduledEventsPolicy storageProfile:>StorageProfile additionalCapabilities:>AdditionalCapabilities osProfile:>OSProfile networkProfile:>NetworkProfile securityProfile:>SecurityProfile diagnosticsProfile:>DiagnosticsProfile availabilitySet:>SubResource virtualMachineScaleSet:>SubResource proximityPlacementGroup:>SubResource priority:s evictionPolicy:s billingProfile:>BillingProfile host:>SubResource hostGroup:>SubResource provisioningState-s instanceView->VirtualMachineInstanceView licenseType:s vmId-s extensionsTimeBudget:s platformFaultDomain:i scheduledEventsProfile:>ScheduledEventsProfile userData:s capacityReservation:>CapacityReservationProfile applicationProfile:>ApplicationProfile timeCreated-s
    VirtualMachinePublicIPAddressConfiguration: name!s properties:>VirtualMachinePublicIPAddressConfigurationProperties sku:>PublicIPAddressSku
    VirtualMachinePublicIPAddressConfigurationProperties: idleTimeoutInMinutes:i deleteOption:s dnsSettings:>VirtualMachinePublicIPAddressDnsSettingsConfiguration ipTags:[>VirtualMachineIpTag] publicIPPrefix:>SubResource publicIPAddressVersion:s publicIPAllocationMethod:s
    VirtualMachinePublicIPAddressDnsSettingsConfiguration: domainNameLabel!s domainNameLabelScope:s
    VirtualMachineUpdate: tags:{s} plan:>Plan properties:>VirtualMachineProperties identity:>VirtualMachineIdentity zones:[s]
    WinRMConfiguration: listeners:[>WinRMListener]
    WinRMListener: protocol:e(Http,Https) certificateUrl:s
    WindowsConfiguration: provisionVMAgent:b enableAutomaticUpdates:b timeZone:s additionalUnattendContent:[>AdditionalUnattendContent] patchSettings:>PatchSettings winRM:>WinRMConfiguration enableVMAgentPlatformUpdates-b
    WindowsVMGuestPatchAutomaticByPlatformSettings: rebootSetting:s bypassPlatformSafetyChecksOnUserSchedule:b
    """
}
