using System.Globalization;
using Pandora.E2b.Connect;
using Pandora.E2b.Data;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Sandboxes;

namespace Pandora.E2b.Processes;

/// <summary>The calls of <c>process.Process</c>.</summary>
internal sealed class ProcessCalls(TimeProvider time)
{
    // Asks for what the process has written before, with offsets. E2B's own server knows no such header.
    private const string OffsetHeader = "X-Pandora-Output-From";
    private static readonly TimeSpan LeastLimit = TimeSpan.FromSeconds(1);
    private const int Sigterm = 15, Sigkill = 9, UsualColumns = 80, UsualRows = 24;

    /// <summary>Finds a call by its name; null for an unknown one.</summary>
    public Func<GuestRequest, Task>? Find(string name) => name switch
    {
        "Start" => StartAsync,
        "Connect" => ConnectAsync,
        "List" => ListAsync,
        "SendInput" => SendInputAsync,
        "CloseStdin" => CloseInputAsync,
        "SendSignal" => SignalAsync,
        "Update" => ResizeAsync,
        "StreamInput" => _ => throw new ConnectException(ConnectCode.Unimplemented, "StreamInput is not implemented; use SendInput"),
        _ => null,
    };

    private async Task StartAsync(GuestRequest request)
    {
        var start = await request.Call.ReadAsync(E2bJson.Default.StartProcess);
        var user = await request.UserAsync();
        var (spec, hasOffsets) = (SpecOf(start, user, request), OffsetOf(request) is not null);
        SandboxProcess process;
        try
        {
            process = await request.Sandbox.OpenProcessAsync(spec, request.Aborted);
        }
        catch (PandoraException e) when (e is { Error: PandoraError.InvalidRequest, Field: "cwd" })
        {
            throw new ConnectException(ConnectCode.InvalidArgument, $"cwd '{spec.Directory}' does not exist");
        }

        await SendAsync(request, process, hasOffsets);
    }

    private static ProcessSpec SpecOf(StartProcess start, GuestUser user, GuestRequest request)
    {
        if (start.Process is not { Cmd: { Length: > 0 } program } config)
        {
            throw new ConnectException(ConnectCode.InvalidArgument, "process.cmd: must name a program");
        }

        var environment = E2bSandbox.EnvironmentOf(request.Sandbox);
        foreach (var (name, value) in config.Envs ?? [])
        {
            environment[name] = value;
        }

        return new ProcessSpec
        {
            Arguments = [program, .. config.Args ?? []],
            Environment = environment,
            Directory = user.Resolve(config.Cwd ?? ""),
            User = user.Name,
            HasInput = start.Stdin != false || start.Pty is not null,
            Terminal = start.Pty is { } pty ? SizeOf(pty) : null,
            // The engine knows no shorter one.
            TimeLimit = request.Call.Timeout is { } limit && limit < LeastLimit ? LeastLimit : request.Call.Timeout,
            WaitsWhileRead = true,
            Tag = start.Tag,
        };
    }

    private async Task ConnectAsync(GuestRequest request)
    {
        var select = await request.Call.ReadAsync(E2bJson.Default.SelectProcess);
        _ = await request.UserAsync();
        var found = await FindAsync(request, select.Process, isEndKnown: true);
        var offset = OffsetOf(request);
        var from = offset is { } given ? new ReadFrom(given) : ReadFrom.Now;
        await SendAsync(request, await request.Sandbox.AttachAsync(found.Id, from, request.Aborted), offset is not null);
    }

    private async Task SendAsync(GuestRequest request, SandboxProcess process, bool hasOffsets)
    {
        await using var disposing = process.ConfigureAwait(false);
        await new ProcessStream(request.Call, process, time, hasOffsets).SendAsync();
    }

    private static async Task ListAsync(GuestRequest request)
    {
        _ = await request.Call.ReadAsync(E2bJson.Default.Empty);
        var processes = await request.Sandbox.ListProcessesAsync(request.Aborted);
        // The guest keeps the beginning of the command line only: what it does not keep is not said.
        var running = processes.Where(p => p.End is null).Select(p =>
        {
            var words = p.Command.Split(' ');
            return new RunningProcess(new ProcessConfig(words[0], words[1..]), p.Pid, p.Tag);
        });
        await request.Call.AnswerAsync(new ProcessList([.. running]), E2bJson.Default.ProcessList);
    }

    private static async Task SendInputAsync(GuestRequest request)
    {
        var send = await request.Call.ReadAsync(E2bJson.Default.SendInput, ConnectCall.MaxInputMessage);
        var bytes = send.Input?.Pty ?? send.Input?.Stdin
            ?? throw new ConnectException(ConnectCode.InvalidArgument, "input: either stdin or pty must be given");
        var found = await FindAsync(request, send.Process);
        if (send.Input.Pty is not null != found.Facts.HasTerminal)
        {
            throw new ConnectException(
                ConnectCode.FailedPrecondition,
                found.Facts.HasTerminal
                    ? "the process has a terminal: send pty, not stdin"
                    : "the process has no terminal: send stdin, not pty");
        }

        if (!found.Facts.HasInput)
        {
            throw new ConnectException(ConnectCode.FailedPrecondition, "stdin is not enabled for this process");
        }

        using var input = new MemoryStream(bytes, writable: false);
        await request.Sandbox.WriteInputAsync(found.Id, input, offset: null, request.Aborted);
        await DoneAsync(request);
    }

    private static async Task CloseInputAsync(GuestRequest request)
    {
        var select = await request.Call.ReadAsync(E2bJson.Default.SelectProcess);
        var found = await FindAsync(request, select.Process);
        if (found.Facts.HasTerminal || !found.Facts.HasInput)
        {
            throw new ConnectException(
                ConnectCode.FailedPrecondition,
                found.Facts.HasTerminal ? "a terminal's input cannot be closed: send Ctrl-D" : "stdin is not enabled for this process");
        }

        await request.Sandbox.EndInputAsync(found.Id, request.Aborted);
        await DoneAsync(request);
    }

    private static async Task SignalAsync(GuestRequest request)
    {
        var send = await request.Call.ReadAsync(E2bJson.Default.SendSignal);
        var signal = send.Signal switch
        {
            "SIGNAL_SIGTERM" or "15" => Sigterm,
            "SIGNAL_SIGKILL" or "9" => Sigkill,
            _ => throw new ConnectException(
                ConnectCode.Unimplemented, "signal: only SIGNAL_SIGTERM and SIGNAL_SIGKILL can be sent"),
        };
        var found = await FindAsync(request, send.Process);
        await request.Sandbox.SignalProcessAsync(found.Id, signal, request.Aborted);
        await DoneAsync(request);
    }

    private static async Task ResizeAsync(GuestRequest request)
    {
        var resize = await request.Call.ReadAsync(E2bJson.Default.ResizeProcess);
        var found = await FindAsync(request, resize.Process);
        if (resize.Pty is { } pty)
        {
            var (columns, rows) = SizeOf(pty);
            await request.Sandbox.ResizeProcessAsync(found.Id, columns, rows, request.Aborted);
        }

        await DoneAsync(request);
    }

    private static Task DoneAsync(GuestRequest request) => request.Call.AnswerAsync(new Empty(), E2bJson.Default.Empty);

    // The guest uses a pid again: the newest process that had it is meant.
    private static async Task<ProcessInfo> FindAsync(GuestRequest request, ProcessSelector? selector, bool isEndKnown = false)
    {
        if (selector is not ({ Pid: not null } or { Tag: not null }))
        {
            throw new ConnectException(ConnectCode.InvalidArgument, "process: either pid or tag must be given");
        }

        var known = await request.Sandbox.ListProcessesAsync(request.Aborted);
        var found = known.LastOrDefault(p => selector.Pid is { } pid ? p.Pid == pid : p.Tag == selector.Tag);
        return found is { End: null } || (found is not null && isEndKnown)
            ? found
            : throw new ConnectException(
                ConnectCode.NotFound,
                selector.Pid is { } missing ? $"process with pid {missing} not found" : $"process with tag '{selector.Tag}' not found");
    }

    // A client whose own terminal has no size, as below 'script' in a job, sends 0 or nothing.
    private static (int Columns, int Rows) SizeOf(Pty pty)
    {
        var (columns, rows) = (pty.Size?.Cols ?? 0, pty.Size?.Rows ?? 0);
        return columns is >= 0 and <= ushort.MaxValue && rows is >= 0 and <= ushort.MaxValue
            ? (columns == 0 ? UsualColumns : columns, rows == 0 ? UsualRows : rows)
            : throw new ConnectException(ConnectCode.InvalidArgument, "pty.size: cols and rows must be at most 65535");
    }

    private static long? OffsetOf(GuestRequest request)
    {
        var header = request.Context.Request.Headers[OffsetHeader].ToString();
        if (header.Length == 0)
        {
            return null;
        }

        return long.TryParse(header, NumberStyles.None, CultureInfo.InvariantCulture, out var offset)
            ? offset
            : throw new ConnectException(ConnectCode.InvalidArgument, $"{OffsetHeader} must be an offset, at least 0");
    }
}
