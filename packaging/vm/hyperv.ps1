# Makes and starts a generation 2 machine of Hyper-V. Run as administrator:
#   .\hyperv.ps1 -Disk C:\VMs\phase.vhdx [-SecureBoot]
param(
    [Parameter(Mandatory)] [string] $Disk,
    [string] $Name = "phase",
    [string] $Switch = "Default Switch",
    [switch] $SecureBoot
)
$ErrorActionPreference = "Stop"
New-VM -Name $Name -Generation 2 -MemoryStartupBytes 2GB -VHDPath $Disk -SwitchName $Switch | Out-Null
Set-VM -Name $Name -ProcessorCount 2 -StaticMemory -AutomaticCheckpointsEnabled $false
if ($SecureBoot) {
    # The certificate authority that signs shim, not the one of Windows.
    Set-VMFirmware -VMName $Name -EnableSecureBoot On -SecureBootTemplate "MicrosoftUEFICertificateAuthority"
} else {
    Set-VMFirmware -VMName $Name -EnableSecureBoot Off
}
Set-VMFirmware -VMName $Name -FirstBootDevice (Get-VMHardDiskDrive -VMName $Name)
Start-VM -Name $Name
