using System.CommandLine;
using Pandora.Cli.Sessions;
using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.Cli.Commands;

/// <summary><c>exec</c>: run a command in a sandbox that there is.</summary>
internal static class ExecCommand
{
    private static readonly TimeSpan CheckLimit = TimeSpan.FromSeconds(10);

    public static Command Create()
    {
        var id = Suggestions.SandboxArgument();
        var exec = new CommandOptions();
        var command = new Command("exec",
            "Run a command in a sandbox, and show its output as it comes; its exit code is passed on. 124: it timed out; 125: Pandora "
            + "failed. Ctrl-C is passed on to the command, a second one kills it; the sandbox lives on") { id };
        exec.AddTo(command);
        command.SetAction(async (result, _) =>
        {
            var spec = exec.Read(result);
            using var pandora = Shared.Connect(result);
            using var interruption = Interruption.Listen();
            return await UseAsync(pandora, result.GetRequiredValue(id), interruption, async name =>
            {
                if (result.GetValue(Shared.Json))
                {
                    var response = await CommandOptions.CollectAsync(pandora, name, spec, interruption);
                    Shared.PrintJson(response, PandoraJson.Default.ExecResponse);
                    return response.ExitCode;
                }

                return (await CommandOptions.RunAsync(pandora, name, spec, interruption)).ExitCode;
            });
        });
        return command;
    }

    /// <summary>Uses a sandbox that there is, and tells what became of it when the user stopped the use.</summary>
    public static async Task<int> UseAsync(
        PandoraClient pandora, string id, Interruption interruption, Func<string, Task<int>> use)
    {
        try
        {
            var exitCode = await use(id);
            if (interruption.Sent is { } signal)
            {
                Console.Error.WriteLine($"pandora: the command ended after SIG{signal}; {await DescribeAsync(pandora, id)}");
            }

            return exitCode;
        }
        catch (StoppedException e)
        {
            throw new StoppedException($"{e.Message}; {await DescribeAsync(pandora, id)}", e.ExitCode);
        }
        catch (OperationCanceledException) when (interruption.Leaving.IsCancellationRequested)
        {
            throw new StoppedException("interrupted before the command was started", interruption.ExitCode);
        }
    }

    // Whether the sandbox lives is asked and not assumed.
    private static async Task<string> DescribeAsync(PandoraClient pandora, string id)
    {
        using var limit = new CancellationTokenSource(CheckLimit, TimeProvider.System);
        try
        {
            await pandora.GetAsync(id, limit.Token);
            return $"sandbox {id} lives on";
        }
        catch (Exception e) when (e is SandboxNotFoundException or SandboxGoneException)
        {
            return $"sandbox {id} has ended";
        }
        catch (Exception e) when (Failure.Of(e) is not null)
        {
            return $"whether sandbox {id} lives on is not known: {e.Message}";
        }
    }
}
