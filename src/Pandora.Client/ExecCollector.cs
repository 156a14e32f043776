using System.Buffers;
using System.Text;
using System.Text.Unicode;
using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>Hands a command's output on as it comes, and keeps it for the result.</summary>
internal sealed class ExecCollector(ExecOptions options)
{
    private readonly Output _stdout = new(options.OnStdout), _stderr = new(options.OnStderr);
    private bool _isTruncated;

    /// <summary>Takes an event.</summary>
    public void Add(ProcessEvent next)
    {
        if (next.Output is not { } output)
        {
            return;
        }

        options.OnOutput?.Invoke(output);
        switch (output.Kind)
        {
            case ProcessOutputKind.Stdout:
                _isTruncated |= !_stdout.TryAdd(output.Bytes.Span);
                break;
            case ProcessOutputKind.Stderr:
                _isTruncated |= !_stderr.TryAdd(output.Bytes.Span);
                break;
            case ProcessOutputKind.Dropped:
                _isTruncated = true;
                break;
        }
    }

    /// <summary>The result of a command that exited.</summary>
    /// <exception cref="ExecTimeoutException">It was killed at its timeout.</exception>
    public ExecResult End(ProcessEvent exited)
    {
        var exit = exited.Exit!;
        var (stdout, stderr) = (_stdout.End(), _stderr.End());
        var isTruncated = _isTruncated || exited.IsTruncated;
        var isLossy = !options.BinaryOutput && !(Utf8.IsValid(stdout) && Utf8.IsValid(stderr));
        if (exit.TimedOut == true)
        {
            throw TimedOut(exit, stdout, stderr, isTruncated, isLossy);
        }

        var result = new ExecResult
        {
            ExitCode = exit.ExitCode,
            Duration = WireTime.Milliseconds(exit.ExecMs ?? 0),
            IsTruncated = isTruncated,
            IsLossy = isLossy,
            IsOutOfMemory = exit.Oom == true,
            MemoryLimit = exit.MemoryLimitBytes,
            HasDiskLostData = exit.DiskLostData == true,
        };
        return options.BinaryOutput
            ? result with { StdoutBytes = stdout, StderrBytes = stderr }
            : result with { Stdout = Encoding.UTF8.GetString(stdout), Stderr = Encoding.UTF8.GetString(stderr) };
    }

    private ExecTimeoutException TimedOut(ExitedEvent exit, byte[] stdout, byte[] stderr, bool isTruncated, bool isLossy)
    {
        string Write(byte[] output) => options.BinaryOutput ? Convert.ToBase64String(output) : Encoding.UTF8.GetString(output);
        var problem = ProblemOf(exit) with
        {
            Stdout = Write(stdout),
            Stderr = Write(stderr),
            Truncated = isTruncated ? true : null,
            Lossy = isLossy ? true : null,
        };
        var exception = new ExecTimeoutException(problem.Detail!, problem, retryAfter: null);
        if (options.BinaryOutput)
        {
            exception.DecodeOutputs();
        }

        return exception;
    }

    /// <summary>The problem that a command at its timeout is, without its output.</summary>
    public static ApiProblem ProblemOf(ExitedEvent exit)
    {
        var end = exit.KillResult switch
        {
            CommandStates.Killed => "was killed",
            CommandStates.NotStarted => "was not started",
            CommandStates.Unreachable => "may still run: the guest does not answer",
            _ => "may still run",
        };
        return new ApiProblem(
            ErrorCodes.ExecTimeout.Title, ErrorCodes.ExecTimeout.Status, $"the command reached its timeout and {end}",
            ErrorCodes.ExecTimeout.Code, Command: exit.KillResult ?? CommandStates.Unknown, Oom: exit.Oom,
            MemoryLimitBytes: exit.MemoryLimitBytes, DiskLostData: exit.DiskLostData);
    }

    private sealed class Output(Action<string>? onText)
    {
        private readonly ArrayBufferWriter<byte> _kept = new();
        private readonly Decoder _decoder = Encoding.UTF8.GetDecoder();

        public bool TryAdd(ReadOnlySpan<byte> bytes)
        {
            Tell(bytes, isEnd: false);
            var room = (int)Math.Min(bytes.Length, Limits.MaxOutputBytes - _kept.WrittenCount);
            _kept.Write(bytes[..room]);
            return room == bytes.Length;
        }

        public byte[] End()
        {
            Tell([], isEnd: true);
            return _kept.WrittenSpan.ToArray();
        }

        // A character whose bytes come in two pieces is handed on as one.
        private void Tell(ReadOnlySpan<byte> bytes, bool isEnd)
        {
            if (onText is null)
            {
                return;
            }

            var text = new char[_decoder.GetCharCount(bytes, isEnd)];
            var length = _decoder.GetChars(bytes, text, isEnd);
            if (length > 0)
            {
                onText(new string(text, 0, length));
            }
        }
    }
}
