using System.Text.Encodings.Web;
using System.Text.Json;
using Pandora.Load;

namespace Pandora.Bench;

/// <summary>The figures of one run and its machine, as stored under <c>benchmarks/</c>.</summary>
/// <param name="At">The time of the run.</param>
/// <param name="Machine">The machine of the run.</param>
/// <param name="Results">The figures.</param>
internal sealed record BenchReport(DateTimeOffset At, Machine Machine, IReadOnlyList<Result> Results)
{
    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web)
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        WriteIndented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    public void Write(string path) => File.WriteAllText(path, JsonSerializer.Serialize(this, Json) + "\n");

    public static BenchReport Read(string path) => JsonSerializer.Deserialize<BenchReport>(File.ReadAllText(path), Json)!;
}
