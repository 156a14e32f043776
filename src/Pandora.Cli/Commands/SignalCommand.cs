using System.CommandLine;

namespace Pandora.Cli.Commands;

/// <summary><c>signal</c>: a signal for a process.</summary>
internal static class SignalCommand
{
    public static Command Create()
    {
        var id = Suggestions.SandboxArgument();
        var process = Suggestions.ProcessArgument(id);
        var signal = Suggestions.SignalArgument();
        var command = new Command("signal", "Send a signal to a process and its group") { id, process, signal };
        command.SetAction(async (result, cancellationToken) =>
        {
            using var pandora = Shared.Connect(result);
            await pandora.Api.SignalProcessAsync(
                result.GetRequiredValue(id), result.GetRequiredValue(process), result.GetRequiredValue(signal), cancellationToken);
        });
        return command;
    }
}
