using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using Pandora.Mcp.Files;
using Pandora.Mcp.Processes;
using Pandora.Mcp.Tools;

namespace Pandora.Mcp;

/// <summary>JSON of arguments and answers: snake_case and strict; members that are null are left out of answers.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    NumberHandling = JsonNumberHandling.Strict,
    UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
    RespectNullableAnnotations = true,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(JsonObject))]
[JsonSerializable(typeof(SandboxCreateArguments))]
[JsonSerializable(typeof(CreatedAnswer))]
[JsonSerializable(typeof(NoArguments))]
[JsonSerializable(typeof(SandboxesAnswer))]
[JsonSerializable(typeof(SandboxArguments))]
[JsonSerializable(typeof(EndedAnswer))]
[JsonSerializable(typeof(PortLinkArguments))]
[JsonSerializable(typeof(LinkAnswer))]
[JsonSerializable(typeof(RunArguments))]
[JsonSerializable(typeof(OutputAnswer))]
[JsonSerializable(typeof(ProcessStartArguments))]
[JsonSerializable(typeof(StartedAnswer))]
[JsonSerializable(typeof(ProcessReadArguments))]
[JsonSerializable(typeof(ProcessInputArguments))]
[JsonSerializable(typeof(InputAnswer))]
[JsonSerializable(typeof(ProcessSignalArguments))]
[JsonSerializable(typeof(SignalAnswer))]
[JsonSerializable(typeof(FileReadArguments))]
[JsonSerializable(typeof(FileAnswer))]
[JsonSerializable(typeof(FileWriteArguments))]
[JsonSerializable(typeof(WrittenAnswer))]
[JsonSerializable(typeof(FileEditArguments))]
[JsonSerializable(typeof(EditedAnswer))]
[JsonSerializable(typeof(FileListArguments))]
[JsonSerializable(typeof(ListAnswer))]
[JsonSerializable(typeof(FileSearchArguments))]
[JsonSerializable(typeof(SearchAnswer))]
internal sealed partial class McpJson : JsonSerializerContext;
