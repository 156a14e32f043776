using System.Text;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Guests.Files;
using Pandora.Engine.Sandboxes;
using Pandora.Mcp.Tools;

namespace Pandora.Mcp.Files;

/// <summary>A search by the guest's own grep or find.</summary>
/// <param name="call">The call.</param>
/// <param name="sandbox">The sandbox.</param>
/// <param name="arguments">What to search for.</param>
internal sealed class GuestSearch(ToolCall call, Sandbox sandbox, FileSearchArguments arguments)
{
    private const string Repository = ".git", Options = "-rnIHZ";
    private const int ErrorCode = 2, NotRunnable = 126, NotFound = 127, Signalled = 128;

    // All of a call, from its beginning: the answer must come in time.
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(40), Least = TimeSpan.FromSeconds(2);

    // They have no files of anybody's, are endless, and change while they are read.
    private static readonly string[] OfTheKernel = ["/proc", "/sys"];

    /// <summary>Searches.</summary>
    /// <param name="limit">Most matches.</param>
    /// <returns>The matches, whether there may be more, and whether the time was over before all was searched.</returns>
    /// <exception cref="PandoraException">The pattern or the path is wrong, or the search could not be made.</exception>
    public async Task<(IReadOnlyList<FoundText> Matches, bool HasMore, bool IsTimedOut)> RunAsync(int limit)
    {
        var output = new SearchOutput(arguments.Pattern is not null, limit);
        var (roots, hasMoreRoots) = await RootsAsync();
        var end = await RunAsync(CommandOf(roots), bytes => output.Take(bytes.Span));
        if (end is null)
        {
            return (output.Found, true, false);
        }

        if (end is { Stopped: null, ExitCode: ErrorCode } && output.Found.Count == 0 && arguments.Pattern is not null)
        {
            await CheckGrepAsync();
        }

        if (end.ExitCode is NotRunnable or NotFound && end.Stopped is null)
        {
            throw NoProgram();
        }

        if (end is { Stopped: null, ExitCode: > Signalled } && output.Found.Count == 0)
        {
            var why = end.OomLimit is { } memory ? $": the sandbox ran out of its memory of {memory / (1024 * 1024)} MiB" : "";
            throw new PandoraException(
                PandoraError.FileFailed, $"the search was killed by signal {end.ExitCode - Signalled}{why}. Nothing was found before");
        }

        // Some file or directory could not be read.
        var isPartial = end.ExitCode >= (arguments.Pattern is null ? 1 : ErrorCode);
        return (output.Found, output.HasMore || hasMoreRoots || isPartial, end.Stopped is not null);
    }

    // The guest says what is wrong with a path; its tools would say it in their own words.
    private async Task<(IReadOnlyList<string> Roots, bool HasMore)> RootsAsync()
    {
        var path = GuestFiles.PathOf(arguments.Path ?? ".");
        var shown = await sandbox.AskFilesAsync(new FileSpec(FileAction.Show, path) { FollowsLinks = true }, call.Stop);
        if (shown.Files[0].Kind is not (GuestFileKind.File or GuestFileKind.Directory))
        {
            throw PandoraException.Invalid("path", "is neither a file nor a directory");
        }

        var root = Encoding.UTF8.GetString(shown.Files[0].Path);
        if (root != "/")
        {
            return ([root], false);
        }

        var all = await sandbox.AskFilesAsync(new FileSpec(FileAction.List, "/"u8.ToArray()) { Depth = 1, Limit = 1000 }, call.Stop);
        // Links there lead to what is searched already.
        var roots = all.Files.Where(f => f.Kind is GuestFileKind.File or GuestFileKind.Directory)
            .Select(f => Encoding.UTF8.GetString(f.Path)).Except(OfTheKernel);
        return ([.. roots], all.Outcome.HasMore);
    }

    private string[] CommandOf(IReadOnlyList<string> roots)
    {
        // Who names it wants it.
        var isRepository = roots is [var only] && only.Split('/')[^1] == Repository;
        if (arguments.Pattern is not { } pattern)
        {
            return
            [
                "find", "-H", .. roots, .. isRepository ? Array.Empty<string>() : ["-name", Repository, "-prune", "-o"],
                arguments.IgnoreCase == true ? "-iname" : "-name", arguments.Name!, "-print0",
            ];
        }

        return
        [
            "grep", Options, arguments.Literal == true ? "-F" : "-E",
            .. isRepository ? Array.Empty<string>() : [$"--exclude-dir={Repository}"],
            .. arguments.IgnoreCase == true ? ["-i"] : Array.Empty<string>(),
            .. arguments.Name is { } name ? [$"--include={name}"] : Array.Empty<string>(),
            "-e", pattern, "--", .. roots,
        ];
    }

    // Runs a command until its end, or until no more is wanted: then the end is null.
    private async Task<ProcessEnd?> RunAsync(IReadOnlyList<string> command, Func<ReadOnlyMemory<byte>, bool> take)
    {
        var left = Limit - call.Elapsed;
        await using var process = await StartAsync(command, left > Least ? left : Least);
        try
        {
            process.Hold();
            while (await process.ReadAsync(call.Stop) is { } output)
            {
                if (output.Stream == OutputStream.Stdout && !take(output.Bytes))
                {
                    await process.KillAsync();
                    return null;
                }
            }
        }
        catch (OperationCanceledException)
        {
            await process.KillAsync();
            throw;
        }

        return process.End;
    }

    private async Task<SandboxProcess> StartAsync(IReadOnlyList<string> command, TimeSpan limit)
    {
        try
        {
            return await sandbox.OpenProcessAsync(
                new ProcessSpec { Arguments = command, WaitsForReader = true, IsReadOnce = true, TimeLimit = limit }, call.Stop);
        }
        catch (PandoraException e) when (e.Field is "args" or "code")
        {
            throw NoProgram();
        }
    }

    private PandoraException NoProgram() => new(
        PandoraError.FileFailed,
        $"the sandbox has no working {(arguments.Pattern is null ? "find" : "grep")}: search with what it has, by run");

    // Some file that grep could not read is no fault of the pattern or of grep. What grep says of it is in the guest's words.
    private async Task CheckGrepAsync()
    {
        if (await IsRefusedAsync())
        {
            throw PandoraException.Invalid("pattern", "is no extended regular expression: set literal for plain text");
        }

        // Small systems have a grep that knows fewer options.
        if (await IsRefusedAsync(Options, $"--exclude-dir={Repository}"))
        {
            throw NoProgram();
        }
    }

    private async Task<bool> IsRefusedAsync(params string[] options)
    {
        string[] command = ["grep", .. options, arguments.Literal == true ? "-F" : "-E", "-q", "-e", arguments.Pattern!, "--", "/dev/null"];
        return await RunAsync(command, _ => true) is { Stopped: null, ExitCode: ErrorCode };
    }
}
