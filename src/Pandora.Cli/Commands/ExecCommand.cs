using System.CommandLine;
using Pandora.Client;

namespace Pandora.Cli.Commands;

/// <summary><c>exec</c>: run a command in a sandbox that there is.</summary>
internal static class ExecCommand
{
    private static readonly TimeSpan CheckLimit = TimeSpan.FromSeconds(10);

    public static Command Create()
    {
        var id = new Argument<string>("id") { Description = "Id of the sandbox" };
        var exec = new CommandOptions();
        var command = new Command("exec",
            "Run a command in a sandbox; its exit code is passed on. 124: it timed out; 125: Pandora failed. "
            + "Ctrl-C ends the request, on which the server stops the command; the sandbox lives on") { id };
        Shared.RefuseOptions(id);
        exec.AddTo(command);
        command.SetAction(async (result, cancellationToken) =>
        {
            var (name, asJson) = (result.GetRequiredValue(id), result.GetValue(Shared.Json));
            using var pandora = Shared.Connect(result);
            var request = await exec.ReadAsync(result, cancellationToken);
            try
            {
                return CommandOptions.Print(await pandora.Api.ExecAsync(name, request, cancellationToken), asJson);
            }
            catch (ExecTimeoutException timeout)
            {
                return CommandOptions.Print(timeout, asJson);
            }
            catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
            {
                throw new StoppedException($"{StoppedException.CommandWords}; {await DescribeAsync(pandora, name)}");
            }
        });
        return command;
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
