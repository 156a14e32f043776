using System.ComponentModel;
using System.Diagnostics;
using System.Text;

namespace Pandora.Linux;

/// <summary>Runs a tool to its end. This class runs all tools of the server; no claim and no exec runs one.</summary>
public static class Command
{
    /// <summary>Runs a tool and returns what it wrote to standard output.</summary>
    /// <param name="tool">Name or path of the program.</param>
    /// <param name="arguments">Its arguments. No shell reads them.</param>
    /// <param name="input">Text for its standard input, which is then closed.</param>
    /// <param name="onLine">Called with each line of standard error as it comes, for progress.</param>
    /// <param name="environment">Environment variables in addition to the server's.</param>
    /// <param name="cancellationToken">Kills the tool with all its children.</param>
    /// <exception cref="CommandException">The tool is not installed, or its exit code is not 0.</exception>
    public static async Task<string> RunAsync(
        string tool, IEnumerable<string> arguments, string? input = null, Action<string>? onLine = null,
        IReadOnlyDictionary<string, string>? environment = null, CancellationToken cancellationToken = default)
    {
        var start = new ProcessStartInfo(tool)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (var argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        foreach (var (name, value) in environment ?? new Dictionary<string, string>())
        {
            start.Environment[name] = value;
        }

        using var process = new Process { StartInfo = start };
        var output = new StringBuilder();
        var errors = new Queue<string>();
        process.OutputDataReceived += (_, e) => output.Append(e.Data).Append(e.Data is null ? "" : "\n");
        process.ErrorDataReceived += (_, e) =>
        {
            if (e.Data is null)
            {
                return;
            }

            onLine?.Invoke(e.Data);
            errors.Enqueue(e.Data);
            if (errors.Count > 40)
            {
                errors.Dequeue();
            }
        };

        try
        {
            _ = Descriptors.Start(process);
        }
        catch (Win32Exception e)
        {
            throw new CommandException(
                tool, -1, $"'{tool}' could not be run ({e.Message}); is its package installed? ./pandora up installs what is needed");
        }

        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        try
        {
            try
            {
                await process.StandardInput.WriteAsync((input ?? "").AsMemory(), cancellationToken);
                process.StandardInput.Close();
            }
            catch (IOException)
            {
                // The tool ended without reading its input; its exit code and messages say why.
            }

            await process.WaitForExitAsync(cancellationToken);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            // Without free descriptors .NET may never report the exit, but the tool is dead: so the wait has a limit.
            await process
                .WaitForExitAsync(CancellationToken.None)
                .WaitAsync(TimeSpan.FromSeconds(5), TimeProvider.System, CancellationToken.None)
                .ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            throw;
        }

        if (process.ExitCode != 0)
        {
            throw new CommandException(
                tool,
                process.ExitCode,
                $"'{tool}' failed with exit code {process.ExitCode}: {string.Join('\n', errors)}".TrimEnd(':', ' '));
        }

        return output.ToString();
    }
}

/// <summary>A tool was missing or failed.</summary>
/// <param name="tool">Name of the tool.</param>
/// <param name="exitCode">Its exit code, or -1 when it could not be run.</param>
/// <param name="message">The message, with what the tool printed.</param>
public sealed class CommandException(string tool, int exitCode, string message) : Exception(message)
{
    /// <summary>Name of the tool.</summary>
    public string Tool { get; } = tool;

    /// <summary>Its exit code, or -1 when it could not be run.</summary>
    public int ExitCode { get; } = exitCode;
}
