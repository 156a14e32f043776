using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Renci.SshNet;
using Renci.SshNet.Common;

namespace Pandora.Engine.Guest;

/// <summary>
/// One command on an SSH connection. SSH.NET opens channels and reads outputs by blocking its caller, so each command has threads of its own: a guest that stalls
/// holds up its own commands and nobody else's.
/// </summary>
internal sealed class SshExec
{
    /// <summary>Input that certainly fits into the channel's first window (24 KiB in dropbear), so that writing it cannot wait for the guest.</summary>
    private const int SmallInput = 16 * 1024;
    private readonly TaskCompletionSource<GuestResult> _result = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Lock _lock = new();
    private readonly SshCommand _command;
    private readonly byte[] _input;
    private readonly OutputCollector _stdout;
    private readonly OutputCollector _stderr;
    private int _markers;

    public SshExec(SshClient client, GuestCommand command, int group)
    {
        var mark = RandomNumberGenerator.GetHexString(32, lowercase: true);
        var script = ExecScript.Create(command, group, mark);
        var stdin = Encoding.UTF8.GetBytes(command.Stdin ?? "");
        var scriptBytes = Encoding.UTF8.GetBytes(script);
        var fits = scriptBytes.Length <= ExecScript.MaxCommandBytes;
        _input = fits ? stdin : [.. scriptBytes, .. stdin];
        _command = client.CreateCommand(fits ? script : ExecScript.ReadFromInput(scriptBytes.Length));
        _stdout = new OutputCollector(command.OutputLimit, mark);
        _stderr = new OutputCollector(command.OutputLimit, mark);
        Command = command;
    }

    /// <summary>Completes when the command's bash has exited, or fails when the connection does.</summary>
    public Task<GuestResult> Result => _result.Task;

    private GuestCommand Command { get; }

    /// <summary>Runs blocking work on a thread of its own.</summary>
    public static Task OnThread(Action work) =>
        Task.Factory.StartNew(work, CancellationToken.None, TaskCreationOptions.LongRunning | TaskCreationOptions.DenyChildAttach, TaskScheduler.Default);

    /// <summary>Starts it.</summary>
    public void Start() => _ = OnThread(Run);

    /// <summary>Closes the channel, whatever the guest does.</summary>
    public void Abandon() => _ = OnThread(_command.Dispose);

    /// <summary>What there is of a command that was killed for its time.</summary>
    public GuestResult Partial() => Finish(137, isTimedOut: true);

    private void Run()
    {
        try
        {
            var ending = _command.ExecuteAsync();
            var errors = OnThread(() => Drain(_command.ExtendedOutputStream, _stderr));
            var writing = _input.Length > SmallInput ? OnThread(WriteInput) : null;
            if (writing is null)
            {
                WriteInput();
            }

            Drain(_command.OutputStream, _stdout);
            errors.GetAwaiter().GetResult();
            ending.GetAwaiter().GetResult();
            _result.TrySetResult(Finish(ExitCode(), isTimedOut: false));
        }
        catch (Exception e) when (e is SshException or ObjectDisposedException or System.Net.Sockets.SocketException or OperationCanceledException or InvalidOperationException)
        {
            _result.TrySetException(new PandoraException(PandoraError.GuestUnreachable, $"the connection to the guest broke while the command ran ({e.Message}); it may have run in part and was not repeated", innerException: e));
        }
        catch (Exception e)
        {
            _result.TrySetException(e);
        }
        finally
        {
            _command.Dispose();
        }
    }

    private void WriteInput()
    {
        try
        {
            using var input = _command.CreateInputStream();
            input.Write(_input);
            input.Flush();
        }
        catch (Exception e) when (e is SshException or ObjectDisposedException or InvalidOperationException or IOException)
        {
            // It ended without reading all of its input, which is its right.
        }
    }

    private void Drain(Stream stream, OutputCollector collector)
    {
        var buffer = new byte[32 * 1024];
        for (int count; (count = stream.Read(buffer)) > 0;)
        {
            foreach (var marker in collector.Append(buffer.AsSpan(0, count)))
            {
                OnMarker(marker);
            }
        }
    }

    // The shell has ended and something it started has not: this is the result, and the outputs are drained on.
    private void OnMarker(Marker marker)
    {
        lock (_lock)
        {
            if (++_markers < marker.Count)
            {
                return;
            }
        }

        switch (marker.Word)
        {
            case "cwd":
                _result.TrySetException(PandoraException.Invalid("cwd", $"'{Command.Cwd}' is not a directory in the sandbox that {Command.User ?? "root"} can enter"));
                break;
            case "user":
                _result.TrySetException(PandoraException.Invalid("user", $"the sandbox has no user '{Command.User}'"));
                break;
            default:
                if (int.TryParse(marker.Word, NumberStyles.None, CultureInfo.InvariantCulture, out var code))
                {
                    _result.TrySetResult(Finish(code, isTimedOut: false));
                }

                break;
        }
    }

    private GuestResult Finish(int exitCode, bool isTimedOut) =>
        new(exitCode, _stdout.ToText(), _stderr.ToText(), _stdout.IsTruncated || _stderr.IsTruncated, isTimedOut);

    // Signals by their names in RFC 4254, 6.10. dropbear has no name for SIGBUS and SIGSYS and sends nothing at all.
    private int ExitCode() => _command.ExitStatus ?? 128 + (_command.ExitSignal switch
    {
        "HUP" => 1, "INT" => 2, "QUIT" => 3, "ILL" => 4, "TRAP" => 5, "ABRT" => 6, "FPE" => 8, "KILL" => 9, "USR1" => 10,
        "SEGV" => 11, "USR2" => 12, "PIPE" => 13, "ALRM" => 14, "TERM" => 15,
        _ => 127,
    });
}
