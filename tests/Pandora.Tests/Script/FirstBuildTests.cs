using System.Diagnostics;

namespace Pandora.Tests.Script;

/// <summary>Two first runs of <c>./pandora</c> at once, with a script as <c>dotnet</c> that records overlapping builds.</summary>
public sealed class FirstBuildTests : IDisposable
{
    private const string DotNet = """
        #!/bin/bash
        root=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
        mkdir "$root/busy" 2> /dev/null || echo "$*" >> "$root/overlaps"
        sleep 0.3
        out=$root/artifacts/bin/$(basename "$2")/release
        while [ $# -gt 0 ]; do [ "$1" != -o ] || out=$2; shift; done
        mkdir -p "$out"
        for program in pandora-server pandora-cli pandora-agent; do
            printf '#!/bin/sh\necho "$@"\n' > "$out/$program"
            chmod +x "$out/$program"
        done
        echo "$out" >> "$root/builds"
        rmdir "$root/busy" 2> /dev/null
        """;

    // Loads the functions of the script without its commands, and replaces those that need root or a network.
    private const string BuildAgent = """
        source <(sed '/^case ${1:-} in/,$d' "$0")
        install_missing() { :; }
        step() { shift; [ "$1" != dotnet ] || "$@"; }
        data=$root/data
        build_agent
        """;

    private readonly string _root = Directory.CreateTempSubdirectory("pandora-test-").FullName;

    public FirstBuildTests()
    {
        var repository = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(repository!.FullName, "Pandora.slnx")))
        {
            repository = repository.Parent;
        }

        File.Copy(Path.Combine(repository.FullName, "pandora"), Path.Combine(_root, "pandora"));
        foreach (var directory in new[] { "src/Pandora.Agent", "src/Pandora.Agent.Protocol", "tools/Pandora.Load", "guest", "bin" })
        {
            Directory.CreateDirectory(Path.Combine(_root, directory));
        }

        foreach (var file in new[] { "Directory.Build.props", "global.json", "src/Pandora.Agent/Program.cs" })
        {
            File.WriteAllText(Path.Combine(_root, file), "");
        }

        var tool = Path.Combine(_root, "bin", "dotnet");
        File.WriteAllText(tool, DotNet);
        File.SetUnixFileMode(tool, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
    }

    public void Dispose() => Directory.Delete(_root, recursive: true);

    [Fact]
    public async Task The_programs_are_built_once()
    {
        Assert.Equal(["ls\n", "ls\n"], await BothAsync([Path.Combine(_root, "pandora"), "ls"]));
        Assert.Equal(["Pandora.Server", "Pandora.Cli"], Builds().Select(b => Path.GetFileName(Path.GetDirectoryName(b))));
    }

    [Fact]
    public async Task The_agent_is_built_once()
    {
        await BothAsync(["-c", BuildAgent, Path.Combine(_root, "pandora")]);
        Assert.Single(Builds());
        Assert.Equal(["key", "pandora-agent"], Directory.GetFiles(Path.Combine(_root, "data", "agent")).Select(Path.GetFileName).Order());
    }

    private string[] Builds()
    {
        Assert.False(File.Exists(Path.Combine(_root, "overlaps")), "two builds ran at once");
        return File.ReadAllLines(Path.Combine(_root, "builds"));
    }

    private Task<string[]> BothAsync(string[] arguments) => Task.WhenAll(Enumerable.Range(0, 2).Select(async _ =>
    {
        var start = new ProcessStartInfo("bash", arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["PATH"] = $"{Path.Combine(_root, "bin")}:{start.Environment["PATH"]}";
        using var process = Process.Start(start)!;
        var (output, error) = (process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.True(process.ExitCode == 0, await error);
        return await output;
    }));
}
