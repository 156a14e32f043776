using Pandora.Agent.Protocol.Channel;

namespace Pandora.Agent.Processes;

/// <summary>
/// What a process has written: both outputs, in the order in which the agent read them, with one absolute offset. The newest bytes are in a
/// ring in memory, older ones in a file on the guest's disk; both are bounded, and the oldest bytes are dropped.
/// </summary>
internal sealed class OutputLog
{
    /// <summary>Most bytes in memory, for one process.</summary>
    public const int RingLimit = 1024 * 1024;

    // Each change from one output to the other is a run. More runs than this are not kept: a process could make one of every two bytes.
    private const int MostRuns = 64 * 1024, LeastRing = 4096;
    private static readonly long RingBudget = GuestMemory.Total / 8;
    private static long s_ringTotal;
    private readonly ByteQueue _ring = new(RingLimit);
    private SpillFile? _file;
    private Run[] _runs = [];
    private int _firstRun, _runCount;
    private ulong _leastBegin;

    /// <summary>Whether all logs together use most of the memory that they may.</summary>
    public static bool IsMemoryTight => s_ringTotal > RingBudget * 3 / 4;

    /// <summary>Offset of the oldest byte that is kept.</summary>
    public ulong Begin => Math.Max(_file is { Count: > 0 } file ? file.Begin : _ring.Begin, _leastBegin);

    /// <summary>Offset after the newest byte.</summary>
    public ulong End => _ring.End;

    /// <summary>How many bytes can be added so that the ring still has those from an offset on.</summary>
    public int FreeAfter(ulong offset) => Math.Max(0, RingSize - (int)(End - Math.Max(offset, _ring.Begin)));

    /// <summary>Whether bytes can be added so that all from an offset on are kept, in the ring or in the file.</summary>
    public bool CanKeep(int count, ulong offset) => FreeAfter(offset) >= count || SpillFile.HasRoom(_file?.CountBefore(offset) ?? 0);

    /// <summary>Adds bytes.</summary>
    /// <param name="output">1 for standard output, 2 for standard error.</param>
    /// <param name="bytes">At most <see cref="LeastRing"/> times 8 bytes.</param>
    /// <param name="keepFrom">Bytes from here on go to the file when they leave the ring.</param>
    public void Add(byte output, ReadOnlySpan<byte> bytes, ulong keepFrom)
    {
        while (!bytes.IsEmpty)
        {
            var piece = bytes[..Math.Min(bytes.Length, RingSize)];
            MakeRoom(piece.Length, keepFrom);
            var before = _ring.Capacity;
            _ring.Add(piece);
            s_ringTotal += _ring.Capacity - before;
            AddRun(output);
            bytes = bytes[piece.Length..];
        }
    }

    /// <summary>Copies bytes of one output.</summary>
    /// <param name="offset">Offset of the first, from <see cref="Begin"/> on.</param>
    /// <param name="target">Receives them.</param>
    /// <param name="output">Which output they are of.</param>
    /// <returns>How many were copied; 0 at the end.</returns>
    public int Read(ulong offset, Span<byte> target, out byte output)
    {
        output = 0;
        if (offset >= End)
        {
            return 0;
        }

        var run = RunAt(offset);
        output = run.Output;
        target = target[..(int)Math.Min((ulong)target.Length, run.End - offset)];
        if (offset >= _ring.Begin)
        {
            return _ring.Peek(offset, target);
        }

        var count = _file!.Read(offset, target[..(int)Math.Min((ulong)target.Length, _ring.Begin - offset)]);
        if (count <= 0)
        {
            // The disk does not give it back, so it is lost: the reader goes on with what is in memory.
            _file.Clear();
            _leastBegin = _ring.Begin;
        }

        return Math.Max(0, count);
    }

    /// <summary>Drops everything, and gives its memory and its file back.</summary>
    public void Drop()
    {
        s_ringTotal -= _ring.Capacity;
        _ring.RemoveTo(_ring.End);
        _file?.Close();
        _file = null;
        (_runs, _firstRun, _runCount) = ([], 0, 0);
    }

    // At its full size, or less when all rings together have as much as they may.
    private int RingSize => (int)Math.Clamp(_ring.Capacity + RingBudget - s_ringTotal, LeastRing, RingLimit);

    private void MakeRoom(int count, ulong keepFrom)
    {
        var excess = _ring.Count + count - RingSize;
        if (excess <= 0)
        {
            return;
        }

        // More at once, so that a busy process does not write to the file for each of its lines.
        var removed = Math.Min(_ring.Count, Math.Max(excess, Math.Min(64 * 1024, RingSize / 4)));
        var next = _ring.Begin + (ulong)removed;
        if (keepFrom < next)
        {
            Spill(Math.Max(keepFrom, _ring.Begin), next);
        }
        else
        {
            // What is in the file would no longer be followed by what is in the ring.
            _file?.Clear();
        }

        var before = _ring.Capacity;
        _ring.RemoveTo(next);
        s_ringTotal += _ring.Capacity - before;
        DropRuns();
    }

    private void Spill(ulong from, ulong to)
    {
        _file ??= new SpillFile();
        Span<byte> piece = stackalloc byte[8192];
        while (from < to)
        {
            var count = _ring.Peek(from, piece[..(int)Math.Min((ulong)piece.Length, to - from)]);
            _file.Append(from, piece[..count]);
            from += (ulong)count;
        }
    }

    private void AddRun(byte output)
    {
        if (_runCount > 0 && RunOf(_runCount - 1).Output == output)
        {
            RunOf(_runCount - 1).End = End;
            return;
        }

        if (_runCount == MostRuns)
        {
            _leastBegin = RunOf(0).End;
            DropRuns();
        }

        if (_runCount == _runs.Length)
        {
            var runs = new Run[Math.Max(4, 2 * _runs.Length)];
            for (var i = 0; i < _runCount; i++)
            {
                runs[i] = RunOf(i);
            }

            (_runs, _firstRun) = (runs, 0);
        }

        _runCount++;
        RunOf(_runCount - 1) = new Run { Output = output, End = End };
    }

    private void DropRuns()
    {
        while (_runCount > 0 && RunOf(0).End <= Begin)
        {
            _firstRun = (_firstRun + 1) % _runs.Length;
            _runCount--;
        }
    }

    private Run RunAt(ulong offset)
    {
        var (low, high) = (0, _runCount - 1);
        while (low < high)
        {
            var middle = (low + high) / 2;
            (low, high) = RunOf(middle).End > offset ? (low, middle) : (middle + 1, high);
        }

        return RunOf(low);
    }

    private ref Run RunOf(int index) => ref _runs[(_firstRun + index) % _runs.Length];

    private struct Run
    {
        public byte Output;
        public ulong End;
    }
}
