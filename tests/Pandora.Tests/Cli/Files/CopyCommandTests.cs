using Pandora.Cli.Files;
using Pandora.Linux;
using Pandora.Tests.Client.Files;
using static Pandora.Tests.Cli.CliProcess;

namespace Pandora.Tests.Cli.Files;

/// <summary><c>cp</c> as a shell sees it.</summary>
public sealed class CopyCommandTests : IAsyncLifetime
{
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-cp").FullName;
    private FilesServer _server = null!;

    public async ValueTask InitializeAsync() => _server = await FilesServer.StartAsync();

    public async ValueTask DisposeAsync()
    {
        await _server.DisposeAsync();
        Directory.Delete(_directory, recursive: true);
    }

    [Theory]
    [InlineData("abc:x", "abc", "x")]
    [InlineData("abc:/x:y", "abc", "/x:y")]
    [InlineData("abc:", "abc", ".")]
    [InlineData("./abc:x", null, "./abc:x")]
    [InlineData("/a:b", null, "/a:b")]
    [InlineData(":x", null, ":x")]
    [InlineData("-", null, "-")]
    public void A_side_is_in_a_sandbox_when_no_slash_comes_before_its_colon(string word, string? sandbox, string path) =>
        Assert.Equal(new CopySide(sandbox, path), CopySide.Parse(word));

    [Theory]
    [InlineData("abc:x", "abd:y", "both sides")]
    [InlineData("x", "y", "neither side")]
    [InlineData("", "abc:", "empty word")]
    [InlineData("/nowhere/x", "abc:", "no local file")]
    [InlineData("--nope", "abc:", "--nope")]
    public async Task Sides_that_make_no_sense_are_refused(string source, string target, string words)
    {
        var (exitCode, output, error) = await RunAsync(["--url", _server.Url, "cp", source, target]);
        Assert.Equal((125, ""), (exitCode, output));
        Assert.Contains(words, error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_file_goes_to_a_name_into_a_directory_and_into_the_home()
    {
        var file = await WriteAsync("f.txt", "text");
        Assert.Equal(0, (await CopyAsync(file, "abc:/home/new")).ExitCode);
        Assert.Equal(0, (await CopyAsync(file, "abc:")).ExitCode);
        Directory.CreateDirectory(_server.Local("/work"));
        var (exitCode, _, error) = await CopyAsync(file, "abc:/work/");
        Assert.Equal(0, exitCode);
        Assert.Matches(@"^copied 1 file · 0 KiB · \d+\.\d s · .*/s\n$", error);
        Assert.All(["new", "f.txt", "/work/f.txt"], p => Assert.Equal("text", File.ReadAllText(_server.Local(p))));
        (exitCode, _, error) = await CopyAsync(file, "abc:/nowhere/");
        Assert.Equal(125, exitCode);
        Assert.Contains("there is no directory '/nowhere/'", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_directory_goes_as_with_cp_both_ways()
    {
        await WriteAsync("tree/a/b", "1");
        var tree = Path.Combine(_directory, "tree");
        await CopyAsync(tree, "abc:/new");
        await CopyAsync(tree, "abc:/new");
        await CopyAsync($"{tree}/.", "abc:/other");
        Assert.All(["/new/a/b", "/new/tree/a/b", "/other/a/b"], p => Assert.True(File.Exists(_server.Local(p)), p));

        var target = Path.Combine(_directory, "got");
        await CopyAsync("abc:/other", target);
        await CopyAsync("abc:/other", target);
        await CopyAsync("abc:/other/.", Path.Combine(target, "a"));
        Assert.All(["a/b", "other/a/b", "a/a/b"], p => Assert.True(File.Exists(Path.Combine(target, p)), p));
        Assert.Equal(0, (await CopyAsync("-q", "abc:/other/a/b", target)).ExitCode);
        Assert.Equal("1", await File.ReadAllTextAsync(Path.Combine(target, "b"), Token));
    }

    [Fact]
    public async Task Pipes_pass_on_any_bytes()
    {
        var bytes = new byte[300_000];
        Random.Shared.NextBytes(bytes);
        using var process = Start(["--url", _server.Url, "cp", "--mode", "600", "-", "abc:piped"]);
        await process.StandardInput.BaseStream.WriteAsync(bytes, Token);
        process.StandardInput.Close();
        Assert.Equal(0, (await EndAsync(process)).ExitCode);
        Assert.Equal(bytes, await File.ReadAllBytesAsync(_server.Local("piped"), Token));
        Assert.Equal((UnixFileMode)0x180, File.GetUnixFileMode(_server.Local("piped")));

        var copy = Path.Combine(_directory, "out");
        await Command.RunAsync("bash", ["-c", "\"$1\" --url \"$2\" cp -q abc:piped - > \"$3\"", "bash", Executable, _server.Url, copy]);
        Assert.Equal(bytes, await File.ReadAllBytesAsync(copy, Token));
    }

    [Fact]
    public async Task A_download_that_was_cut_says_what_was_kept()
    {
        for (var i = 0; i < 20; i++)
        {
            await File.WriteAllBytesAsync(_server.Local($"f{i:00}"), new byte[100_000], Token);
        }

        _server.Cuts.Enqueue(1_000_000);
        var target = Path.Combine(_directory, "cut");
        var (exitCode, _, error) = await CopyAsync("abc:/home", target);
        Assert.Equal(125, exitCode);
        var kept = Directory.GetFiles(target);
        Assert.InRange(kept.Length, 1, 9);
        Assert.Contains($"{kept.Length} files with {kept.Length * 100_000} bytes were kept in '{target}'", error, StringComparison.Ordinal);
        Assert.All(kept, f => Assert.Equal(100_000, new FileInfo(f).Length));
    }

    [Fact]
    public async Task Ctrl_C_ends_it_and_says_what_was_kept()
    {
        var begun = new TaskCompletionSource();
        _server.Instead = async context =>
        {
            if (context.Request.Path.Value!.EndsWith("/tar", StringComparison.Ordinal))
            {
                begun.TrySetResult();
                context.Response.ContentType = "application/x-tar";
                await context.Response.StartAsync();
                await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, context.RequestAborted)
                    .ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                return true;
            }

            return false;
        };
        using var process = Start(["--url", _server.Url, "cp", "abc:/home", Path.Combine(_directory, "x")]);
        await begun.Task.WaitAsync(Limit, TimeProvider.System, Token);
        await Command.RunAsync("kill", ["-INT", $"{process.Id}"]);
        var (exitCode, _, error) = await EndAsync(process);
        Assert.Equal(
            (130, "pandora: interrupted; no file was copied as a whole, and none that was there was changed\n"), (exitCode, error));
    }

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private Task<(int ExitCode, string Output, string Error)> CopyAsync(params string[] arguments) =>
        RunAsync(["--url", _server.Url, "cp", .. arguments]);

    private async Task<string> WriteAsync(string path, string text)
    {
        var file = Path.Combine(_directory, path);
        Directory.CreateDirectory(Path.GetDirectoryName(file)!);
        await File.WriteAllTextAsync(file, text, Token);
        return file;
    }
}
