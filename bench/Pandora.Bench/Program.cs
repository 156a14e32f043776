using System.CommandLine;
using System.Diagnostics;
using Pandora.Bench;
using Pandora.Load;
using Pandora.TestHost;
using Spectre.Console;

CallersSettings.Forget();
var json = new Option<FileInfo>("--json") { Description = "Also write the figures to a JSON file" };
var only = new Option<string>("--only") { Description = "Run one part. The part 'aged' takes ten minutes and runs only with this option" };
only.AcceptOnlyFromAmong([.. Part.All.Select(p => p.Name)]);
var onVmm = new Option<string>("--vmm")
{
    Description = "Measure on firecracker or qemu. Parts that do not depend on the VMM do not run with firecracker",
    DefaultValueFactory = _ => "qemu",
}.AcceptOnlyFromAmong("firecracker", "qemu");
var list = new Option<bool>("--list") { Description = "Measure nothing; list the parts that would run" };
var update = new Option<bool>("--table")
{
    Description = "Measure nothing; update the table of docs/performance.md from benchmarks/bench-*.json",
};
var root = new RootCommand("Measures Pandora and references in the same run; takes about ten minutes on two cores")
{
    json, only, onVmm, list, update,
};
root.Validators.Add(result =>
{
    if (Part.WhyNot(result.GetValue(only), result.GetValue(onVmm) == "firecracker") is { } why)
    {
        result.AddError(why);
    }
});
root.SetAction(async (result, cancellationToken) =>
{
    var repository = FindRepository();
    if (result.GetValue(update))
    {
        var path = Path.Combine(repository, "docs/performance.md");
        var text = await File.ReadAllTextAsync(path, cancellationToken);
        var updated = FigureTable.Update(text, Path.Combine(repository, "benchmarks"));
        await File.WriteAllTextAsync(path, updated, cancellationToken);
        return 0;
    }

    var isFirecracker = result.GetValue(onVmm) == "firecracker";
    var parts = Part.Choose(result.GetValue(only), isFirecracker);
    if (result.GetValue(list))
    {
        Console.WriteLine(string.Join('\n', parts.Select(p => p.Name)));
        return 0;
    }

    // bench/run sets both variables.
    var target = new Target(
        repository, Environment.GetEnvironmentVariable("PANDORA_TEST_TEMPLATES") ?? "/var/lib/pandora/templates",
        !isFirecracker ? null : Environment.GetEnvironmentVariable("PANDORA_TEST_FIRECRACKER")
            ?? throw new InvalidOperationException("PANDORA_TEST_FIRECRACKER is not set: './pandora bench --vmm firecracker' finds it"));
    var results = new List<Result>();
    var empty = new List<string>();
    foreach (var part in parts)
    {
        Console.Error.WriteLine($"{part.Name} …");
        var start = Stopwatch.GetTimestamp();
        var measured = await part.RunAsync(target);
        if (measured.Count == 0)
        {
            empty.Add(part.Name);
        }

        results.AddRange(measured.Select(r => r with { Name = target.Label + r.Name }));
        Console.Error.WriteLine($"{part.Name}: {Stopwatch.GetElapsedTime(start).TotalSeconds:0} s");
    }

    var table = new Table().Border(TableBorder.Markdown).AddColumns("measured", "value", "wanted", "met", "from");
    foreach (var r in results)
    {
        table.AddRow(Markup.Escape(r.Name), r.Shown, r.Wanted, r.IsMet ? "yes" : "no", Markup.Escape(r.Reference));
    }

    AnsiConsole.Profile.Width = 160;
    AnsiConsole.Write(table);
    if (result.GetValue(json) is { } file)
    {
        new BenchReport(TimeProvider.System.GetUtcNow(), Machine.Describe(), results).Write(file.FullName);
    }

    if (empty.Count > 0)
    {
        Console.Error.WriteLine($"pandora: these parts measured nothing: {string.Join(", ", empty)}");
        return 1;
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
