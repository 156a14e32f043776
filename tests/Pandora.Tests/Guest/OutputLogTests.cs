using Pandora.Agent.Processes;

namespace Pandora.Tests.Guests;

/// <summary>What the agent keeps of a process's output: the same bytes, at the same offsets, up to the bounds.</summary>
public sealed class OutputLogTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;
    private readonly OutputLog _log = new();

    public OutputLogTests() => SpillFile.Directory = _directory;

    public void Dispose()
    {
        _log.Drop();
        Directory.Delete(_directory, recursive: true);
    }

    [Fact]
    public void Both_outputs_are_read_in_the_order_in_which_they_came()
    {
        Assert.Equal((0ul, 0ul), (_log.Begin, _log.End));
        Assert.Equal(0, _log.Read(0, new byte[10], out _));
        _log.Add(1, "ab"u8, 0);
        _log.Add(1, "c"u8, 0);
        _log.Add(2, "error"u8, 0);
        _log.Add(1, "d"u8, 0);
        Assert.Equal((0ul, 9ul), (_log.Begin, _log.End));
        Assert.Equal([(1, "abc"), (2, "error"), (1, "d")], ReadAll(0, 100));
        Assert.Equal([(2, "ror"), (1, "d")], ReadAll(5, 100));
        Assert.Equal([(1, "a"), (1, "b"), (1, "c"), (2, "e")], ReadAll(0, 1)[..4]);
        Assert.Equal(OutputLog.RingLimit - 9, _log.FreeAfter(0));
        Assert.Equal(OutputLog.RingLimit, _log.FreeAfter(9));
        Assert.Empty(Directory.GetFiles(_directory));
    }

    [Fact]
    public void What_leaves_the_ring_is_kept_in_a_file_without_a_name()
    {
        var random = new Random(1);
        var model = new List<(byte Output, byte Value)>();
        while (model.Count < 3 * OutputLog.RingLimit)
        {
            var bytes = new byte[random.Next(1, 32 * 1024)];
            random.NextBytes(bytes);
            var output = (byte)random.Next(1, 3);
            _log.Add(output, bytes, 0);
            model.AddRange(bytes.Select(b => (output, b)));
        }

        Assert.Equal((0ul, (ulong)model.Count), (_log.Begin, _log.End));
        Assert.Empty(Directory.GetFiles(_directory));
        var buffer = new byte[10_000];
        for (ulong offset = 0; offset < _log.End;)
        {
            var count = _log.Read(offset, buffer.AsSpan(0, random.Next(1, buffer.Length)), out var output);
            Assert.True(count > 0);
            for (var i = 0; i < count; i++)
            {
                if (model[(int)offset + i] != (output, buffer[i]))
                {
                    Assert.Fail($"another byte at {offset + (ulong)i}");
                }
            }

            offset += (ulong)count;
        }
    }

    [Fact]
    public void The_oldest_bytes_are_dropped_when_the_file_is_full()
    {
        var piece = new byte[32 * 1024];
        var total = SpillFile.Limit + OutputLog.RingLimit + (8 * 1024 * 1024);
        for (long at = 0; at < total; at += piece.Length)
        {
            BitConverter.GetBytes(at).CopyTo(piece, 0);
            _log.Add(1, piece, 0);
        }

        Assert.Equal((ulong)total, _log.End);
        var kept = (long)(_log.End - _log.Begin);
        Assert.InRange(kept, SpillFile.Limit - (2 * 1024 * 1024), SpillFile.Limit + OutputLog.RingLimit);
        var first = ((long)_log.Begin + piece.Length - 1) / piece.Length * piece.Length;
        for (var at = first; at < total; at += piece.Length)
        {
            var number = new byte[8];
            Assert.Equal(8, _log.Read((ulong)at, number, out _));
            Assert.Equal(at, BitConverter.ToInt64(number));
        }

        // Another process's file takes its share, and what is dropped is given back.
        var other = new OutputLog();
        for (var i = 0; i < 100; i++)
        {
            other.Add(2, piece, 0);
        }

        Assert.Equal(3_276_800ul, other.End);
        _log.Drop();
        Assert.Equal(_log.End, _log.Begin);
        var later = other.End;
        for (var i = 0; i < 200; i++)
        {
            other.Add(2, piece, 0);
        }

        Assert.InRange(other.Begin, 0ul, later);
        other.Drop();
    }

    [Fact]
    public void What_a_reader_has_had_does_not_go_to_the_file()
    {
        var piece = new byte[32 * 1024];
        for (var i = 0; i < 64; i++)
        {
            _log.Add(1, piece, _log.End);
        }

        Assert.InRange(_log.End - _log.Begin, 1ul, (ulong)OutputLog.RingLimit);
        // From the middle of what leaves the ring: only what was not read is kept.
        var from = _log.Begin + 1000;
        for (var i = 0; i < 32; i++)
        {
            _log.Add(2, piece, from);
        }

        Assert.Equal(from, _log.Begin);
        Assert.Equal(100, _log.Read(from, new byte[100], out var output));
        Assert.Equal(1, output);
    }

    [Fact]
    public void A_process_that_changes_its_output_with_each_byte_cannot_fill_the_memory()
    {
        for (var i = 0; i < 200_000; i++)
        {
            _log.Add((byte)((i % 2) + 1), [(byte)i], 0);
        }

        Assert.Equal(200_000ul, _log.End);
        Assert.Equal(200_000ul - (64 * 1024), _log.Begin);
        var all = ReadAll(_log.Begin, 100);
        Assert.Equal(64 * 1024, all.Count);
        Assert.All(all, (piece, i) => Assert.Equal((i % 2) + 1, piece.Output));
    }

    [Fact]
    public void A_reader_that_waits_has_room_for_a_ring_and_no_more()
    {
        var piece = new byte[32 * 1024];
        while (_log.FreeAfter(0) > 0)
        {
            _log.Add(1, piece.AsSpan(0, Math.Min(piece.Length, _log.FreeAfter(0))), 0);
        }

        Assert.Equal((0ul, (ulong)OutputLog.RingLimit), (_log.Begin, _log.End));
        Assert.Equal(5000, _log.FreeAfter(5000));
    }

    [Fact]
    public void Without_a_disk_the_ring_remains()
    {
        SpillFile.Directory = $"{_directory}/no/such";
        var piece = new byte[32 * 1024];
        for (var i = 0; i < 100; i++)
        {
            _log.Add(1, piece, 0);
        }

        Assert.InRange(_log.End - _log.Begin, 900_000ul, (ulong)OutputLog.RingLimit);
        Assert.Equal(piece.Length, _log.Read(_log.Begin, piece, out _));
    }

    [Fact]
    public void A_process_that_waits_without_a_reader_keeps_all_that_is_unread()
    {
        var piece = new byte[32 * 1024];
        void Fill(ulong readTo)
        {
            while (_log.CanKeep(piece.Length, readTo))
            {
                BitConverter.GetBytes(_log.End).CopyTo(piece, 0);
                _log.Add(1, piece, 0);
                Assert.True(_log.Begin <= readTo);
            }
        }

        Fill(0);
        Assert.Equal(0ul, _log.Begin);
        Assert.InRange(_log.End, (ulong)(SpillFile.Limit / 2), (ulong)(SpillFile.Limit + OutputLog.RingLimit));
        var full = _log.End;
        // What a reader has had makes room, and the rest is kept.
        Fill(10 * 1024 * 1024);
        Assert.InRange(_log.End, full + (9 * 1024 * 1024), full + (11 * 1024 * 1024));
        // What another process keeps leaves less room, but never less than the ring.
        var other = new OutputLog();
        Assert.True(other.CanKeep(piece.Length, 0));
        while (other.CanKeep(piece.Length, 0))
        {
            other.Add(1, piece, 0);
        }

        Assert.InRange(other.End, (ulong)OutputLog.RingLimit - (ulong)piece.Length, (ulong)(2 * OutputLog.RingLimit));
        Assert.Equal(0ul, other.Begin);
        other.Drop();
        for (ulong at = 10 * 1024 * 1024; at < _log.End; at += (ulong)piece.Length)
        {
            var number = new byte[8];
            Assert.Equal(8, _log.Read(at, number, out _));
            Assert.Equal(at, BitConverter.ToUInt64(number));
        }
    }

    [Fact]
    public void Readers_of_any_pace_see_the_same_bytes()
    {
        var random = new Random(2);
        var offsets = new ulong[4];
        var buffer = new byte[70_000];
        while (_log.End < 8 * 1024 * 1024)
        {
            // The fastest reader sets the pace of the process.
            var count = Math.Min(random.Next(1, 32 * 1024), _log.FreeAfter(offsets.Max()));
            for (var i = 0; i < count; i++)
            {
                buffer[i] = ValueAt(_log.End + (ulong)i);
            }

            _log.Add((byte)(1 + (_log.End / 100_000 % 2)), buffer.AsSpan(0, count), 0);
            var reader = random.Next(offsets.Length);
            for (var i = 0; i < reader; i++)
            {
                var read = _log.Read(offsets[reader], buffer.AsSpan(0, random.Next(1, buffer.Length)), out _);
                for (var j = 0; j < read; j++)
                {
                    Assert.True(buffer[j] == ValueAt(offsets[reader] + (ulong)j), $"another byte at {offsets[reader] + (ulong)j}");
                }

                offsets[reader] += (ulong)read;
            }
        }

        Assert.Equal(0ul, _log.Begin);
        static byte ValueAt(ulong offset) => (byte)((offset * 31) ^ (offset >> 9));
    }

    private List<(int Output, string Text)> ReadAll(ulong offset, int atOnce)
    {
        List<(int, string)> pieces = [];
        var buffer = new byte[atOnce];
        for (int count; (count = _log.Read(offset, buffer, out var output)) > 0; offset += (ulong)count)
        {
            pieces.Add((output, System.Text.Encoding.Latin1.GetString(buffer, 0, count)));
        }

        return pieces;
    }
}
