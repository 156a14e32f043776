using System.Text.Json.Serialization;
using Pandora.E2b.Control;
using Pandora.E2b.Connect;
using Pandora.E2b.Files;
using Pandora.E2b.Processes;

namespace Pandora.E2b;

/// <summary>An error of the control API and of <c>/files</c>.</summary>
/// <param name="Code">The HTTP status.</param>
/// <param name="Message">What is wrong.</param>
internal sealed record E2bError([property: JsonPropertyName("code")] int Code, [property: JsonPropertyName("message")] string Message);

/// <summary>Why a request for a sandbox's port was not answered by a program in it.</summary>
internal sealed record GatewayError(
    [property: JsonPropertyName("sandboxId")] string SandboxId,
    [property: JsonPropertyName("message")] string Message,
    [property: JsonPropertyName("code")] int Code)
{
    /// <summary>The port, when the sandbox exists.</summary>
    [JsonPropertyName("port")]
    public int? Port { get; init; }
}

/// <summary>The messages of E2B's API. Names are E2B's.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(Dictionary<string, string>))]
[JsonSerializable(typeof(E2bError))]
[JsonSerializable(typeof(GatewayError))]
[JsonSerializable(typeof(NewSandbox))]
[JsonSerializable(typeof(ConnectSandbox))]
[JsonSerializable(typeof(TimeoutChange))]
[JsonSerializable(typeof(Refresh))]
[JsonSerializable(typeof(NetworkChange))]
[JsonSerializable(typeof(CreatedSandbox))]
[JsonSerializable(typeof(SandboxDetail))]
[JsonSerializable(typeof(SandboxDetail[]))]
[JsonSerializable(typeof(SandboxMetric[]))]
[JsonSerializable(typeof(SandboxMetrics))]
[JsonSerializable(typeof(SandboxLogs))]
[JsonSerializable(typeof(SandboxLogLine))]
[JsonSerializable(typeof(TemplateEntry[]))]
[JsonSerializable(typeof(TemplateAlias))]
[JsonSerializable(typeof(ConnectError))]
[JsonSerializable(typeof(EndOfStream))]
[JsonSerializable(typeof(Empty))]
[JsonSerializable(typeof(StartProcess))]
[JsonSerializable(typeof(SelectProcess))]
[JsonSerializable(typeof(SendInput))]
[JsonSerializable(typeof(SendSignal))]
[JsonSerializable(typeof(ResizeProcess))]
[JsonSerializable(typeof(ProcessEventMessage))]
[JsonSerializable(typeof(ProcessList))]
[JsonSerializable(typeof(PathRequest))]
[JsonSerializable(typeof(MoveRequest))]
[JsonSerializable(typeof(WatchRequest))]
[JsonSerializable(typeof(WatcherRequest))]
[JsonSerializable(typeof(EntryAnswer))]
[JsonSerializable(typeof(EntriesAnswer))]
[JsonSerializable(typeof(WatchMessage))]
[JsonSerializable(typeof(WatcherAnswer))]
[JsonSerializable(typeof(WatcherEvents))]
[JsonSerializable(typeof(WrittenFile[]))]
internal sealed partial class E2bJson : JsonSerializerContext;
