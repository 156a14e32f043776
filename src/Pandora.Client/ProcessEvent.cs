using System.Text.Json;
using System.Text.Json.Serialization;
using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>One event of a process's stream. Which members have a value depends on its name.</summary>
/// <param name="Name">One of <see cref="ProcessEvents"/>.</param>
internal sealed record ProcessEvent(string Name)
{
    /// <summary>Offset at which a stream begins, or at which output is or is missing.</summary>
    public long Offset { get; init; }

    /// <summary>Offset after missing output.</summary>
    public long EndOffset { get; init; }

    /// <summary>Of <c>started</c>.</summary>
    public string? ProcessId { get; init; }

    /// <summary>Of output.</summary>
    public ReadOnlyMemory<byte> Bytes { get; init; }

    /// <summary>Of <c>exited</c>.</summary>
    public ExitedEvent? Exit { get; init; }

    /// <summary>Of <c>error</c>.</summary>
    public ApiProblem? Problem { get; init; }

    /// <summary>With <c>exited</c>: an older server, which collects output, kept only a part.</summary>
    public bool IsTruncated { get; init; }

    /// <summary>The output that it is; null for other events.</summary>
    public ProcessOutput? Output => Name switch
    {
        ProcessEvents.Stdout or ProcessEvents.Stderr => new()
        {
            Kind = Name == ProcessEvents.Stdout ? ProcessOutputKind.Stdout : ProcessOutputKind.Stderr,
            Offset = Offset,
            EndOffset = Offset + Bytes.Length,
            Bytes = Bytes,
        },
        ProcessEvents.Dropped => new() { Kind = ProcessOutputKind.Dropped, Offset = Offset, EndOffset = EndOffset },
        _ => null,
    };

    /// <summary>Reads an event of a stream that was asked for with base64.</summary>
    /// <exception cref="JsonException">It is not as it should be.</exception>
    public static ProcessEvent Parse(string name, ReadOnlySpan<byte> data)
    {
        switch (name)
        {
            case ProcessEvents.Started:
                var started = Read(JsonSerializer.Deserialize(data, PandoraJson.Default.StartedEvent));
                return new(name) { ProcessId = started.ProcessId, Offset = started.Offset };
            case ProcessEvents.Stdout or ProcessEvents.Stderr:
                var output = Read(JsonSerializer.Deserialize(data, ClientJson.Default.OutputBytes));
                return new(name) { Offset = output.Offset, Bytes = output.Data };
            case ProcessEvents.Dropped or ProcessEvents.Paused:
                var dropped = Read(JsonSerializer.Deserialize(data, PandoraJson.Default.DroppedEvent));
                return new(name) { Offset = dropped.From, EndOffset = dropped.To };
            case ProcessEvents.Exited:
                var exit = Read(JsonSerializer.Deserialize(data, PandoraJson.Default.ExitedEvent));
                return new(name) { Exit = exit, Offset = exit.Offset };
            case ProcessEvents.Error:
                return new(name) { Problem = Read(JsonSerializer.Deserialize(data, PandoraJson.Default.ApiProblem)) };
            default:
                // A heartbeat, or an event of a later server.
                return new(name);
        }
    }

    private static T Read<T>(T? data)
        where T : class => data ?? throw new JsonException("an event has no data");
}

/// <summary><see cref="OutputEvent"/> with base64, read without a text in between.</summary>
internal sealed record OutputBytes(long Offset, byte[] Data);

/// <summary>JSON that only this package reads.</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(OutputBytes))]
internal sealed partial class ClientJson : JsonSerializerContext;
