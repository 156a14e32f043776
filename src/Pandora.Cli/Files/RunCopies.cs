using System.CommandLine;
using Pandora.Cli.Sessions;
using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.Cli.Files;

/// <summary>What <c>run</c> copies into its sandbox before the command, and out of it afterwards.</summary>
internal sealed class RunCopies
{
    private readonly Option<string[]> _in = new("--copy-in")
    {
        Description = "Copy a local file or directory into the sandbox before the command, as cp does; without DST into the user's home. "
            + "May be repeated",
        HelpName = "SRC:DST",
    };

    private readonly Option<string[]> _out = new("--copy-out")
    {
        Description = "Copy a file or directory out of the sandbox after the command, also when it failed, timed out or was stopped by one "
            + "Ctrl-C; without DST into this directory. May be repeated",
        HelpName = "SRC:DST",
    };

    private readonly Option<bool> _excludeIgnored = new("--exclude-ignored")
    {
        Description = "Of --copy-in: leave out what .gitignore names, and .git",
    };

    /// <summary>Adds the options.</summary>
    public void AddTo(Command command)
    {
        command.Options.Add(_in);
        command.Options.Add(_out);
        command.Options.Add(_excludeIgnored);
    }

    /// <summary>The copies that the command line asks for.</summary>
    /// <exception cref="UsageException">One is not understood, or its local file is not there.</exception>
    public Plan Read(ParseResult result, string? user, bool isQuiet)
    {
        var (copyIn, copyOut) = (result.GetValue(_in) ?? [], result.GetValue(_out) ?? []);
        var plan = new Plan(
            [.. copyIn.Select(p => Split("--copy-in", p, p.LastIndexOf(':')))],
            [.. copyOut.Select(p => Split("--copy-out", p, p.IndexOf(':')))],
            user, result.GetValue(_excludeIgnored), isQuiet, result.GetValue(Shared.Json));
        foreach (var (source, _) in plan.In)
        {
            if (!Path.Exists(source))
            {
                throw new UsageException($"--copy-in: there is no local file '{source}'");
            }
        }

        return plan;
    }

    // The local side may have colons, the sandbox's may not.
    private static (string Source, string Target) Split(string option, string pair, int colon)
    {
        var (source, target) = colon < 0 ? (pair, "") : (pair[..colon], pair[(colon + 1)..]);
        return source.Length == 0
            ? throw new UsageException($"{option}: '{pair}' is not SRC:DST")
            : (source, target.Length == 0 ? "." : target);
    }

    /// <summary>The copies of one command.</summary>
    /// <param name="In">Local file and place in the sandbox.</param>
    /// <param name="Out">File in the sandbox and local place.</param>
    /// <param name="User">The command's user, whose rights apply.</param>
    /// <param name="ExcludesIgnored">Whether what git ignores is left out.</param>
    /// <param name="IsQuiet">Whether progress is not shown.</param>
    /// <param name="AsJson">Whether errors are JSON.</param>
    internal sealed record Plan(
        IReadOnlyList<(string Source, string Target)> In, IReadOnlyList<(string Source, string Target)> Out, string? User,
        bool ExcludesIgnored, bool IsQuiet, bool AsJson)
    {
        /// <summary>Copies in. The user may stop it.</summary>
        public async Task BringInAsync(PandoraClient pandora, string sandboxId, Interruption interruption)
        {
            foreach (var (source, target) in In)
            {
                await CopyAsync(pandora, sandboxId, job => job.UploadAsync(source, target, interruption.Leaving));
            }
        }

        /// <summary>Copies out. A failure is printed, and the next copy begun.</summary>
        /// <returns>0, or the exit code where the command's own is 0.</returns>
        public async Task<int> TakeOutAsync(PandoraClient pandora, string sandboxId, Interruption interruption)
        {
            if (Out.Count == 0)
            {
                return 0;
            }

            var stopped = interruption.BeginCopying();
            var exitCode = 0;
            foreach (var (source, target) in Out)
            {
                try
                {
                    stopped.ThrowIfCancellationRequested();
                    await CopyAsync(pandora, sandboxId, job => job.DownloadAsync(source, target, stopped));
                }
                catch (OperationCanceledException) when (stopped.IsCancellationRequested)
                {
                    var words = $"--copy-out: interrupted: the copy of '{source}' to '{target}', and what comes after it, was given up";
                    return new Failure(interruption.ExitCode, new ApiProblem(Detail: words, Code: "cancelled")).Print(AsJson);
                }
                catch (Exception e) when (Failure.Of(e) is { } failure)
                {
                    var words = $"--copy-out: '{source}' was not copied to '{target}': {failure.Problem.Detail}";
                    var problem = failure.Problem with { Detail = words };
                    exitCode = (failure with { ExitCode = Failure.Failed, Problem = problem }).Print(AsJson);
                }
            }

            return exitCode;
        }

        private async Task CopyAsync(PandoraClient pandora, string sandboxId, Func<CopyJob, Task<TransferResult>> copy)
        {
            var progress = new CopyProgress(Console.Error.Write, !IsQuiet && !Console.IsErrorRedirected, TimeProvider.System);
            var job = new CopyJob(
                pandora.Connect(sandboxId).Files, new UploadOptions { User = User, ExcludesIgnored = ExcludesIgnored },
                new DownloadOptions { User = User }, progress);
            TransferResult result;
            try
            {
                result = await copy(job);
            }
            finally
            {
                progress.Clear();
            }

            // What was left out is said also where the summary is not.
            progress.Summary(result).SkipLast(1).ToList().ForEach(Console.Error.WriteLine);
        }
    }
}
