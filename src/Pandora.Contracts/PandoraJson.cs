using System.Text.Json.Serialization;

namespace Pandora.Contracts;

/// <summary>JSON of the wire: snake_case and strict numbers; members that are null are left out.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    NumberHandling = JsonNumberHandling.Strict,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(CreateSandboxRequest))]
[JsonSerializable(typeof(SandboxCreated))]
[JsonSerializable(typeof(SandboxInfo))]
[JsonSerializable(typeof(IReadOnlyList<SandboxInfo>))]
[JsonSerializable(typeof(SandboxInfo[]))]
[JsonSerializable(typeof(ExecRequest))]
[JsonSerializable(typeof(ExecResponse))]
[JsonSerializable(typeof(StartProcessRequest))]
[JsonSerializable(typeof(SignalRequest))]
[JsonSerializable(typeof(TerminalSize))]
[JsonSerializable(typeof(ProcessState))]
[JsonSerializable(typeof(ProcessState[]))]
[JsonSerializable(typeof(StartedEvent))]
[JsonSerializable(typeof(OutputEvent))]
[JsonSerializable(typeof(DroppedEvent))]
[JsonSerializable(typeof(ExitedEvent))]
[JsonSerializable(typeof(AttachFrame))]
[JsonSerializable(typeof(FileEntry))]
[JsonSerializable(typeof(FileList))]
[JsonSerializable(typeof(MakeDirectoryRequest))]
[JsonSerializable(typeof(MoveFileRequest))]
[JsonSerializable(typeof(UnpackedFiles))]
[JsonSerializable(typeof(FileChange))]
[JsonSerializable(typeof(EgressRequest))]
[JsonSerializable(typeof(PortInfo[]))]
[JsonSerializable(typeof(PortRequest))]
[JsonSerializable(typeof(PortAccess))]
[JsonSerializable(typeof(PortLinkRequest))]
[JsonSerializable(typeof(PortLink))]
[JsonSerializable(typeof(SshKeysRequest))]
[JsonSerializable(typeof(SshAccess))]
[JsonSerializable(typeof(Health))]
[JsonSerializable(typeof(Receipt))]
[JsonSerializable(typeof(ApiProblem))]
internal sealed partial class PandoraJson : JsonSerializerContext;
