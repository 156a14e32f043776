using System.Text.Encodings.Web;
using System.Text.Json;
using Pandora.Load;

namespace Pandora.Bench;

/// <summary>Figures of one run and the machine that they come from, as kept under <c>benchmarks/</c>.</summary>
/// <param name="At">When it was made.</param>
/// <param name="Machine">Where.</param>
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
