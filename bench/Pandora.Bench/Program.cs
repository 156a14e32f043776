using System.CommandLine;
using System.Diagnostics;
using System.Text.Json;
using Pandora.Bench;
using Spectre.Console;

var json = new Option<FileInfo>("--json") { Description = "Write the figures to a file as well" };
var only = new Option<string>("--only") { Description = "Run one part: pool, exec, growth, boot, footprint" };
var root = new RootCommand("Measures Pandora against references taken in the same run; about five minutes on two cores") { json, only };
root.SetAction(async (result, cancellationToken) =>
{
    var repository = FindRepository();
    var templates = Path.Combine(Environment.GetEnvironmentVariable("PANDORA_DATA_DIR") is { Length: > 0 } data ? data : "/var/lib/pandora", "templates");
    var results = new List<Result>();
    async Task PartAsync(string name, Func<Task<IReadOnlyList<Result>>> run)
    {
        if (result.GetValue(only) is { } wanted && wanted != name)
        {
            return;
        }

        Console.Error.WriteLine($"{name} …");
        var start = Stopwatch.GetTimestamp();
        results.AddRange(await run());
        Console.Error.WriteLine($"{name}: {Stopwatch.GetElapsedTime(start).TotalSeconds:0} s");
    }

    async Task<IReadOnlyList<Result>> WithServerAsync(int poolSize, Func<BenchServer, Task<IReadOnlyList<Result>>> run)
    {
        await using var server = await BenchServer.StartAsync(repository, templates, poolSize);
        return await run(server);
    }

    await PartAsync("pool", () => WithServerAsync(4, PoolBench.RunAsync));
    await PartAsync("exec", () => WithServerAsync(2, ExecBench.RunAsync));
    await PartAsync("growth", () => WithServerAsync(2, async s => [await ExecBench.GrowthAsync(s)]));
    await PartAsync("boot", async () => [await BootBench.RunAsync(repository, templates)]);
    await PartAsync("footprint", () => WithServerAsync(2, FootprintBench.RunAsync));

    var table = new Table().Border(TableBorder.Markdown).AddColumns("measured", "value", "wanted", "met", "from");
    foreach (var r in results)
    {
        table.AddRow(Markup.Escape(r.Name), r.Shown, $"≤ {r.Target:0.##}", r.IsMet ? "yes" : "no", Markup.Escape(r.Reference));
    }

    AnsiConsole.Profile.Width = 160;
    AnsiConsole.Write(table);
    if (result.GetValue(json) is { } file)
    {
        await File.WriteAllTextAsync(file.FullName, JsonSerializer.Serialize(
            new
            {
                at = TimeProvider.System.GetUtcNow(), processors = Environment.ProcessorCount, system = System.Runtime.InteropServices.RuntimeInformation.OSDescription,
                results = results.Select(r => new { name = r.Name, value = Math.Round(r.Value, 3), unit = r.Unit, target = r.Target, met = r.IsMet, reference = r.Reference }),
            }, new JsonSerializerOptions { WriteIndented = true, Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping }), cancellationToken);
    }

    return 0;
});
return await root.Parse(args).InvokeAsync();

static string FindRepository()
{
    var directory = new DirectoryInfo(AppContext.BaseDirectory);
    while (directory is not null && !File.Exists(Path.Combine(directory.FullName, "Pandora.slnx")))
    {
        directory = directory.Parent;
    }

    return directory?.FullName ?? throw new InvalidOperationException("the benchmark does not run inside the repository");
}
