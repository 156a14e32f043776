using System.IO.Pipelines;
using Microsoft.Extensions.Time.Testing;
using Pandora.Server.Hosting;

namespace Pandora.Tests.Hosting;

/// <summary>How slowly a client may read an answer, on fake time and a pipe that holds 64 KiB.</summary>
public sealed class ReadingPaceTests
{
    private const int Piece = 64 * 1024;
    private readonly FakeTimeProvider _time = new();
    private readonly Pipe _pipe = new(new PipeOptions(pauseWriterThreshold: Piece, resumeWriterThreshold: Piece / 2));

    [Fact]
    public async Task A_client_that_reads_nothing_is_given_up_after_the_grace_and_the_time_for_the_written_bytes()
    {
        var pace = new ReadingPace(_time);
        var writing = WriteAsync(pace, Piece);
        _time.Advance(ReadingPace.Grace + TimeSpan.FromSeconds(0.9));
        Assert.False(writing.IsCompleted);
        _time.Advance(TimeSpan.FromSeconds(0.2));
        await Assert.ThrowsAsync<TimeoutException>(() => writing);
    }

    [Fact]
    public async Task The_rate_counts_over_all_pieces_together()
    {
        var pace = new ReadingPace(_time);
        // The client reads 8 KiB/s. Each piece alone would be in time.
        var pieces = 0;
        var late = await Assert.ThrowsAsync<TimeoutException>(async () =>
        {
            for (; pieces < 100; pieces++)
            {
                var writing = WriteAsync(pace, (pieces + 1L) * Piece);
                _time.Advance(TimeSpan.FromSeconds(8));
                await ReadAsync();
                await writing;
            }
        });
        Assert.NotNull(late);
        Assert.InRange(pieces, 1, 2);
    }

    [Fact]
    public async Task A_client_that_reads_fast_enough_gets_everything()
    {
        var pace = new ReadingPace(_time);
        for (var i = 1L; i <= 160; i++)
        {
            var writing = WriteAsync(pace, i * Piece);
            _time.Advance(TimeSpan.FromSeconds(0.9));
            await ReadAsync();
            await writing;
        }

        Assert.Equal(160L * Piece, pace.Written);
    }

    private Task WriteAsync(ReadingPace pace, long written)
    {
        _pipe.Writer.GetSpan(Piece);
        _pipe.Writer.Advance(Piece);
        return pace.FlushAsync(_pipe.Writer, written, default).AsTask();
    }

    private async Task ReadAsync()
    {
        var result = await _pipe.Reader.ReadAsync();
        _pipe.Reader.AdvanceTo(result.Buffer.End);
    }
}
