using Pandora.Agent.Protocol.Processes;

namespace Pandora.Agent.Processes;

/// <summary>
/// One process that the agent started, in a session and a cgroup of its own. It has ended when its own program has; others that it
/// started may live on, and what they write from then on is dropped.
/// </summary>
internal sealed partial class GuestProcess
{
    private const int ReadAtOnce = 32 * 1024;
    private static readonly byte[] Buffer = new byte[ReadAtOnce];
    private readonly EventLoop _loop;
    private readonly StartRequest _request;
    private readonly Action<GuestProcess> _ended;
    private readonly CommandCgroup? _cgroup;
    private readonly long _startedAt = Linux.Now();
    private readonly OutputPipe?[] _outputs = new OutputPipe?[2];
    private readonly int _pidfd;
    private int _input = -1, _terminal = -1, _events = -1, _status = -1;
    private bool _hasReachedLimit, _isInputWatched;
    private KillReport? _limitReport;

    /// <param name="loop">Tells when the process's pipes are ready.</param>
    /// <param name="request">What to start.</param>
    /// <param name="ended">Called at the end.</param>
    /// <exception cref="RequestFailedException">It could not be started; nothing of it is left.</exception>
    public GuestProcess(EventLoop loop, StartRequest request, Action<GuestProcess> ended)
    {
        (_loop, _request, _ended) = (loop, request, ended);
        var account = Account.Find(request.User ?? "root")
            ?? throw new RequestFailedException(FailureKind.User, $"there is no user '{request.User}'");
        _cgroup = CommandCgroup.Create(request.Id);
        List<int> others = [];
        try
        {
            if (_cgroup is not null && _cgroup.IsFrozen())
            {
                // The agent would wait in vfork for a process that does not run.
                throw new RequestFailedException(FailureKind.Guest, "the guest's root has frozen the cgroup of all commands");
            }

            var (input, output, error) = OpenPipes(account, others);
            var environment = CommandEnvironment.Create(request, account);
            (Pid, _pidfd) = Spawner.Start(new SpawnSpec
            {
                Programs = CommandEnvironment.ProgramsOf(request, environment),
                Arguments = request.Code is { } code ? ShellCode.ArgumentsFor(code) : request.Arguments,
                Environment = environment,
                Directory = request.Directory ?? account.Home,
                OtherDirectory = request.Directory is null ? "/" : null,
                Account = account,
                Cgroup = _cgroup?.Directory ?? -1,
                Input = input,
                Output = output,
                Error = error,
                IsTerminal = request.Columns > 0,
            });
        }
        catch
        {
            CloseOwn();
            _cgroup?.CloseDirectory();
            _cgroup?.TryRemove();
            throw;
        }
        finally
        {
            others.ForEach(Linux.Close);
        }

        _cgroup?.CloseDirectory();
        loop.Add(_pidfd, Linux.EpollIn, _ => OnProgramEnded());
        foreach (var pipe in _outputs.OfType<OutputPipe>())
        {
            Watch(pipe);
        }

        if (request.TimeLimit > 0)
        {
            loop.After(request.TimeLimit, OnLimit);
        }
    }

    /// <summary>Called when there is output, room for input, or the end.</summary>
    public Action<GuestProcess>? Changed { get; set; }

    public string Id => _request.Id;

    public int Pid { get; }

    /// <summary>How many processes were started up to this one.</summary>
    public required long Number { get; init; }

    /// <summary>What the process has, and how far it is.</summary>
    public ProcessFacts Facts => new(
        _request.HasInput || _request.Columns > 0, _request.Columns > 0, _request.IsForeground, _request.KeepsAlive,
        (long)Output.Begin, (long)Output.End, _inputAccepted);

    /// <summary>What the process has written.</summary>
    public OutputLog Output { get; } = new();

    /// <summary>The end; null while the program runs, or has output that was not read.</summary>
    public EndReport? End { get; private set; }

    /// <summary>Whether its program has ended. There may be output of it that was not read.</summary>
    public bool HasExited => _status >= 0;

    /// <summary>Whether a session reads its output.</summary>
    public bool HasReader => _readers.Count > 0;

    /// <summary>The process as the list shows it.</summary>
    public ProcessEntry Entry
    {
        get
        {
            var command = _request.Code ?? string.Join(' ', _request.Arguments);
            return new ProcessEntry(
                Id, Pid, _request.Tag, command[..Math.Min(command.Length, ProcessEntry.MaxCommand)], _startedAt, Facts, End);
        }
    }

    /// <summary>Sends a signal to the process and its group.</summary>
    /// <returns>False when the process has ended, or there is no such signal.</returns>
    public bool Signal(int signal)
    {
        var isPossible = End is null && _status < 0 && signal is > 0 and <= 64;
        if (isPossible)
        {
            Linux.SignalGroup(Pid, signal);
        }

        return isPossible;
    }

    /// <summary>Sets the size of the terminal.</summary>
    /// <returns>False when it has no terminal, or no more.</returns>
    public bool Resize(ushort columns, ushort rows)
    {
        var isPossible = _terminal >= 0 && columns > 0 && rows > 0;
        if (isPossible)
        {
            Linux.Resize(_terminal, columns, rows);
        }

        return isPossible;
    }

    private (int Input, int Output, int Error) OpenPipes(Account account, List<int> others)
    {
        int Keep(int other)
        {
            others.Add(other);
            return other;
        }

        try
        {
            if (_request.Columns > 0)
            {
                var (own, terminal) = Linux.OpenTerminal(account.User);
                (_terminal, _outputs[0]) = (own, new OutputPipe(1, own));
                Linux.Resize(own, _request.Columns, Math.Max(_request.Rows, (ushort)1));
                _ = Keep(terminal);
                return (terminal, terminal, terminal);
            }

            var input = DevNull;
            if (_request.HasInput)
            {
                (_input, input) = Linux.OpenPipe(isInput: true, account.User);
                _ = Keep(input);
            }

            var (ownOutput, output) = Linux.OpenPipe(isInput: false, account.User);
            _outputs[0] = new OutputPipe(1, ownOutput);
            _ = Keep(output);
            if (_request.IsMerged)
            {
                return (input, output, output);
            }

            var (ownError, error) = Linux.OpenPipe(isInput: false, account.User);
            _outputs[1] = new OutputPipe(2, ownError);
            return (input, output, Keep(error));
        }
        catch (IOException e)
        {
            throw new RequestFailedException(FailureKind.Guest, $"the guest cannot open a {e.Message}");
        }
    }

    private static int DevNull { get; } = Linux.TryOpen("/dev/null");

    private void OnLimit()
    {
        if (End is null && _status < 0)
        {
            _hasReachedLimit = true;
            Kill(report =>
            {
                _limitReport = report;
                FinishIfRead();
            });
        }
    }

    private void OnProgramEnded()
    {
        if (Linux.TakeStatus(_pidfd) is not { } status)
        {
            return;
        }

        _status = status;
        _loop.Remove(_pidfd);
        Linux.Close(_pidfd);
        CloseInput();
        foreach (var pipe in _outputs.OfType<OutputPipe>().Where(p => !p.IsClosed))
        {
            // What the program has written before its end belongs to it; what others write from now on does not.
            pipe.Remaining = pipe.Descriptor == _terminal ? int.MaxValue : Linux.Readable(pipe.Descriptor);
        }

        ReadOutputs();
    }

    private void FinishIfRead()
    {
        var isUnread = _outputs.OfType<OutputPipe>().Any(p => !p.IsClosed && p.Remaining != 0);
        if (End is not null || _status < 0 || isUnread || (_hasReachedLimit && _limitReport is null))
        {
            return;
        }

        var hasLeftovers = _cgroup?.IsPopulated() ?? _outputs.OfType<OutputPipe>().Any(p => !p.IsClosed);
        End = new EndReport(_status, _hasReachedLimit, hasLeftovers, _cgroup?.FindOomLimit() ?? 0, (long)Output.End)
        {
            Kill = _limitReport ?? KillReport.None,
        };
        if (hasLeftovers)
        {
            WatchLeftovers();
        }
        else
        {
            CloseOwn();
            _cgroup?.TryRemove();
        }

        Changed?.Invoke(this);
        _ended(this);
    }

    // Its processes keep the pipes, and must not be killed by a signal when they write. Their end closes the pipes.
    private void WatchLeftovers()
    {
        foreach (var pipe in _outputs.OfType<OutputPipe>().Where(p => !p.IsClosed))
        {
            pipe.IsDiscarding = true;
            if (!pipe.IsWatched)
            {
                Watch(pipe);
            }
        }

        _events = _cgroup?.OpenEvents() ?? -1;
        if (_events >= 0)
        {
            _loop.Add(_events, Linux.EpollPriority, _ => OnGroupChanged());
            // It may have become empty before the watch.
            OnGroupChanged();
        }
    }

    private void OnGroupChanged()
    {
        if (_events >= 0 && !CommandCgroup.IsPopulated(_events))
        {
            _loop.Remove(_events);
            Linux.Close(_events);
            _events = -1;
            CloseOwn();
            _cgroup!.TryRemove();
        }
    }

    private void CloseOwn()
    {
        CloseInput();
        foreach (var pipe in _outputs.OfType<OutputPipe>())
        {
            Close(pipe);
        }
    }

    /// <summary>A pipe or a terminal that the process writes to.</summary>
    private sealed class OutputPipe(byte output, int descriptor)
    {
        public byte Output => output;

        public int Descriptor => descriptor;

        public bool IsWatched { get; set; }

        public bool IsClosed { get; set; }

        /// <summary>Whether what comes is dropped.</summary>
        public bool IsDiscarding { get; set; }

        /// <summary>Bytes that the program has left in the pipe at its end; -1 while it runs.</summary>
        public int Remaining { get; set; } = -1;
    }
}
