using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Renci.SshNet;
using Renci.SshNet.Common;

namespace Pandora.Engine.Guests;

/// <summary>
/// One command on an SSH connection. SSH.NET blocks its caller while it opens a channel or reads an output, so each command has dedicated
/// threads: a guest that stalls delays its own commands and no others.
/// </summary>
internal sealed class SshExec
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(15);
    private const int Unsent = 0, Sent = 1, Refused = 2;
    private readonly TaskCompletionSource<GuestResult> _result = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Lock _lock = new();
    private readonly SshCommand _command;
    private readonly IReadOnlyList<(SshCommand Command, byte[] Content)> _uploads;
    private readonly OutputCollector _stdout;
    private readonly OutputCollector _stderr;
    private readonly SemaphoreSlim _gate;
    private readonly TaskCompletionSource _closed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _opened = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Stream? _input;
    private int _markers;
    private int _stage = Unsent;
    private volatile bool _isBroken;

    /// <param name="client">The connection.</param>
    /// <param name="gate">Held while a channel is opened, and while shells are released.</param>
    /// <param name="command">The command.</param>
    /// <param name="group">Number of its cgroup.</param>
    public SshExec(SshClient client, SemaphoreSlim gate, GuestCommand command, int group)
    {
        _gate = gate;
        Group = group;
        var mark = RandomNumberGenerator.GetHexString(32, lowercase: true);
        var script = ExecScript.Create(command, group, mark, Tag);
        var uploads = new List<(SshCommand, byte[])>();
        string Upload(string kind, string text, string then)
        {
            var content = Encoding.UTF8.GetBytes(text);
            uploads.Add((client.CreateCommand(ExecScript.Upload(group, kind, content.Length)), content));
            return then;
        }

        if (!string.IsNullOrEmpty(command.Stdin))
        {
            Upload("in", command.Stdin, "");
        }

        _command = client.CreateCommand(Encoding.UTF8.GetByteCount(script) <= ExecScript.MaxCommandBytes
            ? script
            : Upload("code", script, ExecScript.RunUploaded(group, Tag)));
        _uploads = uploads;
        _stdout = new OutputCollector(command.OutputLimit, mark);
        _stderr = new OutputCollector(command.OutputLimit, mark);
        Command = command;
    }

    /// <summary>Completes when the command's bash has exited, or fails when the connection fails.</summary>
    public Task<GuestResult> Result => _result.Task;

    /// <summary>Completes when the command's channel is closed, because the shell or the connection has ended.</summary>
    public Task Closed => _closed.Task;

    /// <summary>Number of the command's cgroup.</summary>
    public int Group { get; }

    /// <summary>Value of <see cref="ExecScript.TagVariable"/> in every process that the command starts.</summary>
    public string Tag { get; } = RandomNumberGenerator.GetHexString(16, lowercase: true);

    /// <summary>Whether the guest closed the command's channel. dropbear does so when the shell has exited, and not before.</summary>
    public bool HasShellGone => Closed.IsCompleted && !_isBroken;

    /// <summary>Completes when the gate is released again: the command was given to the guest, or never will be.</summary>
    public Task Opened => _opened.Task;

    /// <summary>Whether the shell has reported its end, no other process of the command remains, and the shell waits for its
    /// release.</summary>
    public bool IsWaiting { get; private set; }

    private GuestCommand Command { get; }

    /// <summary>Runs blocking work on a new thread.</summary>
    /// <exception cref="PandoraException">The host has no room for another thread.</exception>
    public static Task OnThread(Action work)
    {
        try
        {
            return Task.Factory.StartNew(
                work, CancellationToken.None, TaskCreationOptions.LongRunning | TaskCreationOptions.DenyChildAttach, TaskScheduler.Default);
        }
        catch (TaskSchedulerException e)
        {
            throw new PandoraException(
                PandoraError.HostFull,
                "the server's host has no room for another thread (memory, descriptors): the command was not run, or not to its "
                    + "end, and is not repeated",
                innerException: e);
        }
    }

    /// <summary>
    /// Runs a short command for the server itself and returns the first 4 KiB that it prints. In a hostile guest another program may run
    /// instead, which prints without end or never exits.
    /// </summary>
    public static async Task<string> RunBoundedAsync(SshClient client, string script, CancellationToken cancellationToken)
    {
        var printed = "";
        using var command = client.CreateCommand(script);
        // On a thread of the pool: a dispose that fails must not throw into the code that cancels.
        using var stop = cancellationToken.Register(() => _ = Task.Run(command.Dispose, CancellationToken.None));
        await OnThread(() => printed = RunBounded(command)).WaitAsync(cancellationToken);
        return printed;
    }

    /// <summary>
    /// Runs a short command for the server itself, with a longer time limit for a slow guest: a command that the server gives up still ends
    /// later, and then nothing holds the gate for it any more.
    /// </summary>
    public static async Task<string> RunPatientlyAsync(SshClient client, string script, TimeProvider time)
    {
        using var limit = new CancellationTokenSource(Patience, time);
        return await RunBoundedAsync(client, script, limit.Token);
    }

    /// <summary>Starts the command.</summary>
    /// <param name="cancellationToken">Ends the wait for the gate.</param>
    public void Start(CancellationToken cancellationToken) => _ = OnThread(() => Run(cancellationToken));

    /// <summary>Lets the waiting shell end.</summary>
    public void Release()
    {
        try
        {
            _input?.Write("\n"u8);
            _input?.Flush();
        }
        catch (Exception e)
            when (e is SshException or ObjectDisposedException or InvalidOperationException or System.Net.Sockets.SocketException)
        {
            // The shell or the connection has ended already.
        }
    }

    /// <summary>Makes sure that the command is never sent.</summary>
    /// <returns>False when it was sent before.</returns>
    public bool TryRefuse() => Interlocked.CompareExchange(ref _stage, Refused, Unsent) != Sent;

    /// <summary>Closes the channels without waiting for the guest.</summary>
    public void Abandon() => _ = Task.Run(() =>
    {
        foreach (var command in _uploads.Select(u => u.Command).Append(_command))
        {
            command.Dispose();
        }
    });

    /// <summary>Returns the result of a stopped command, with the outputs so far, and keeps nothing more.</summary>
    public GuestResult Partial(CommandStop stopped)
    {
        var result = Finish(137) with { Stopped = stopped };
        _stdout.Release();
        _stderr.Release();
        return result;
    }

    private void Run(CancellationToken cancellationToken)
    {
        try
        {
            Task ending;
            _gate.Wait(cancellationToken);
            try
            {
                foreach (var (upload, content) in _uploads)
                {
                    Send(upload, content);
                }

                // From here on the command may run.
                if (Interlocked.CompareExchange(ref _stage, Sent, Unsent) != Unsent)
                {
                    throw new OperationCanceledException();
                }

                ending = _command.ExecuteAsync(CancellationToken.None);
                _input = TryCreateInput();
            }
            finally
            {
                _gate.Release();
                _opened.TrySetResult();
            }

            var errors = OnThread(() => Drain(_command.ExtendedOutputStream, _stderr));
            Drain(_command.OutputStream, _stdout);
            errors.GetAwaiter().GetResult();
            ending.GetAwaiter().GetResult();
            if (!_result.Task.IsCompleted)
            {
                _result.TrySetResult(Finish(ExitCode()));
            }
        }
        catch (Exception e) when (e is SshException or ObjectDisposedException or System.Net.Sockets.SocketException
            or OperationCanceledException or InvalidOperationException)
        {
            _isBroken = true;
            _result.TrySetException(TryRefuse()
                ? PandoraException.NotSent($"the connection to the guest broke ({e.Message})", e)
                : new PandoraException(
                    PandoraError.GuestUnreachable,
                    $"the connection to the guest broke while the command ran ({e.Message}); it may have run in part and was not repeated",
                    innerException: e));
        }
        catch (Exception e)
        {
            _isBroken = true;
            _result.TrySetException(e);
        }
        finally
        {
            _opened.TrySetResult();
            _closed.TrySetResult();
            _command.Dispose();
        }
    }

    private static string RunBounded(SshCommand command)
    {
        var running = command.ExecuteAsync();
        _ = OnThread(() => Discard(command.ExtendedOutputStream));
        var buffer = new byte[4096];
        var kept = 0;
        for (int count; kept < buffer.Length && (count = command.OutputStream.Read(buffer, kept, buffer.Length - kept)) > 0;)
        {
            kept += count;
        }

        Discard(command.OutputStream);
        running.GetAwaiter().GetResult();
        return Encoding.UTF8.GetString(buffer, 0, kept);
    }

    private Stream? TryCreateInput()
    {
        try
        {
            return _command.CreateInputStream();
        }
        catch (InvalidOperationException)
        {
            // The command has ended already.
            return null;
        }
    }

    // The reader in the guest takes every byte before it ends, so nothing is sent to a channel that closes.
    private static void Send(SshCommand upload, byte[] content)
    {
        var ending = upload.ExecuteAsync();
        // In a hostile guest another program may run instead and print without end: read and drop it.
        _ = OnThread(() => Discard(upload.OutputStream));
        _ = OnThread(() => Discard(upload.ExtendedOutputStream));
        var input = upload.CreateInputStream();
        input.Write(content);
        input.Flush();
        ending.GetAwaiter().GetResult();
        if (upload.ExitStatus != 0)
        {
            throw PandoraException.NotSent($"the guest could not take the command's {content.Length} bytes (is its disk full?)");
        }

        upload.Dispose();
    }

    private static void Discard(Stream stream)
    {
        var buffer = new byte[4096];
        while (stream.Read(buffer) > 0)
        {
            // Drop the bytes.
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

    // The last marker is the result, even if processes of the command still hold the outputs open. Reading continues.
    private void OnMarker(Marker marker)
    {
        lock (_lock)
        {
            if (++_markers < marker.Count)
            {
                return;
            }
        }

        IsWaiting = !marker.Word.EndsWith('+');
        switch (marker.Word)
        {
            case "cwd":
                _result.TrySetException(
                    PandoraException.Invalid(
                        "cwd", $"'{Command.Cwd}' is not a directory in the sandbox that {Command.User ?? "root"} can enter"));
                break;
            case "user":
                _result.TrySetException(PandoraException.Invalid("user", $"the sandbox has no user '{Command.User}'"));
                break;
            default:
                if (int.TryParse(marker.Word.TrimEnd('+'), NumberStyles.None, CultureInfo.InvariantCulture, out var code))
                {
                    _result.TrySetResult(Finish(code));
                    _stdout.Release();
                    _stderr.Release();
                }

                break;
        }
    }

    private GuestResult Finish(int exitCode) => new(exitCode, _stdout.Take(), _stderr.Take());

    // Signal names of RFC 4254, 6.10. dropbear has no name for SIGBUS and SIGSYS and sends nothing for them.
    private int ExitCode() => _command.ExitStatus ?? 128 + (_command.ExitSignal switch
    {
        "HUP" => 1,
        "INT" => 2,
        "QUIT" => 3,
        "ILL" => 4,
        "TRAP" => 5,
        "ABRT" => 6,
        "FPE" => 8,
        "KILL" => 9,
        "USR1" => 10,
        "SEGV" => 11,
        "USR2" => 12,
        "PIPE" => 13,
        "ALRM" => 14,
        "TERM" => 15,
        _ => 127,
    });
}
