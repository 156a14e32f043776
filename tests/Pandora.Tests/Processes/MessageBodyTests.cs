using System.Text;
using CsCheck;
using Pandora.Agent.Protocol.Processes;

namespace Pandora.Tests.Processes;

/// <summary>Bodies of messages: what is written is read, and everything else is a <see cref="FormatException"/>.</summary>
public sealed class MessageBodyTests
{
    private static readonly Gen<string> Text = Gen.OneOf(Gen.String[0, 20], Gen.Const(""), Gen.Const("\ud83d\ude00\0ä")).Select(
        // A lone surrogate does not survive UTF-8.
        t => Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(t)));

    private static readonly Gen<string?> TextOrNull = Gen.OneOf(Text.Select(t => (string?)t), Gen.Const((string?)null));

    private static readonly Gen<EndReport> Ends = Gen.Select(
        Gen.Int[0, 255], Gen.Bool, Gen.Bool, Gen.Long[0, long.MaxValue], Gen.Long, Gen.Int[0, 15],
        (c, l, o, m, f, k) => new EndReport(c, l, o, m, f) { Kill = (KillReport)k });

    private static readonly Gen<ProcessFacts> Facts = Gen.Select(
        Gen.Bool, Gen.Bool, Gen.Bool, Gen.Bool, Gen.Long[0, long.MaxValue / 2], Gen.Long[0, long.MaxValue / 2], Gen.Long[0, long.MaxValue],
        (i, t, f, k, begin, length, input) => new ProcessFacts(i, t, f, k, begin, begin + length, input));

    private static readonly Dictionary<string, (byte[] Valid, Action<byte[]> Decode)> Bodies = new()
    {
        ["start"] = (new StartRequest
        {
            Id = "abc",
            Tag = "t",
            Code = "echo",
            Arguments = ["a", ""],
            Environment = ["A", "1"],
            Directory = "/",
            User = "u",
            TimeLimit = 5,
        }.Encode(), b => StartRequest.Decode(b)),
        ["attach"] = (new AttachRequest("abc", -1).Encode(), b => AttachRequest.Decode(b)),
        ["started"] = (
            new StartedReport(5, new ProcessFacts(true, false, true, false, 1, 2, 3)).Encode(), b => StartedReport.Decode(b)),
        ["end"] = (new EndReport(1, true, false, 5, 6).Encode(), b => EndReport.Decode(b)),
        ["failure"] = (new FailureReport(FailureKind.User, "why").Encode(), b => FailureReport.Decode(b)),
        ["entry"] = (
            new ProcessEntry(
                "a", 1, null, "x", 5, new ProcessFacts(true, false, true, false, 1, 2, 3), new EndReport(0, false, false, 0, 0)).Encode(),
            b => ProcessEntry.Decode(b)),
    };

    public static TheoryData<string> Names => [.. Bodies.Keys];

    [Fact]
    public void Requests_are_read_as_they_were_written()
    {
        Gen.Select(Text.Where(t => t.Length > 0), TextOrNull, TextOrNull, Text.Array[0, 5], Text.Array[0, 3], TextOrNull, TextOrNull)
            .Select(Gen.Select(Gen.Bool, Gen.Bool, Gen.UShort, Gen.UShort, Gen.Long[0, long.MaxValue], Gen.Bool, Gen.Bool))
            .Sample((texts, others) =>
            {
                var request = new StartRequest
                {
                    Id = texts.Item1,
                    Tag = texts.Item2,
                    Code = texts.Item3,
                    Arguments = texts.Item4,
                    Environment = [.. texts.Item5, .. texts.Item5],
                    Directory = texts.Item6,
                    User = texts.Item7,
                    HasInput = others.Item1,
                    IsMerged = others.Item2,
                    Columns = others.Item3,
                    Rows = others.Item4,
                    TimeLimit = others.Item5,
                    Policy = others.Item6 ? OutputPolicy.Wait : OutputPolicy.Keep,
                    IsForeground = others.Item7,
                };
                var read = StartRequest.Decode(request.Encode());
                Assert.Equal(request.Arguments, read.Arguments);
                Assert.Equal(request.Environment, read.Environment);
                Assert.Equal(request, read with { Arguments = request.Arguments, Environment = request.Environment });
            });
        Gen.Select(Text, Gen.Long, (id, offset) => new AttachRequest(id, offset))
            .Sample(request => request == AttachRequest.Decode(request.Encode()));
    }

    [Fact]
    public void Reports_are_read_as_they_were_written()
    {
        Ends.Sample(report => report == EndReport.Decode(report.Encode()));
        Gen.Select(Gen.Byte, Text, (kind, reason) => new FailureReport((FailureKind)kind, reason))
            .Sample(report => report == FailureReport.Decode(report.Encode()));
        Gen.Select(
                Gen.Select(Text, Gen.Int[0, int.MaxValue], TextOrNull, Text, Gen.Long, Facts),
                Gen.OneOf(Ends.Select(e => (EndReport?)e), Gen.Const((EndReport?)null)),
                (t, end) => new ProcessEntry(t.Item1, t.Item2, t.Item3, t.Item4, t.Item5, t.Item6, end))
            .Sample(entry => entry == ProcessEntry.Decode(entry.Encode()));
    }

    [Fact]
    public void Offsets_that_cannot_be_are_refused()
    {
        foreach (var facts in new ProcessFacts[]
        {
            new(true, true, true, true, -1, 0, 0), new(true, true, true, true, 2, 1, 0), new(true, true, true, true, 0, 0, -1),
        })
        {
            Assert.Throws<FormatException>(() => StartedReport.Decode(new StartedReport(1, facts).Encode()));
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void A_body_that_is_cut_or_too_long_is_refused(string name)
    {
        var (valid, decode) = Bodies[name];
        decode(valid);
        for (var length = 0; length < valid.Length; length++)
        {
            Assert.Throws<FormatException>(() => decode(valid[..length]));
        }

        Assert.Throws<FormatException>(() => decode([.. valid, 0]));
        Assert.Throws<FormatException>(() => decode([.. valid, .. new byte[5000]]));
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Any_number_in_any_place_is_read_or_refused_without_its_memory(string name)
    {
        var (valid, decode) = Bodies[name];
        foreach (var number in new[] { 5L << 30, long.MaxValue, long.MinValue, -1, -2, int.MaxValue, 1L << 32, 256, 7 })
        {
            for (var at = 0; at + 8 <= valid.Length; at++)
            {
                byte[] hostile = [.. valid];
                BitConverter.GetBytes(number).CopyTo(hostile, at);
                var before = GC.GetAllocatedBytesForCurrentThread();
                try
                {
                    decode(hostile);
                }
                catch (FormatException)
                {
                    // It was refused.
                }

                Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 100_000);
            }
        }
    }

    [Fact]
    public void Random_bytes_are_read_or_refused() => Gen.Byte.Array[0, 200].Sample(bytes =>
    {
        foreach (var (_, decode) in Bodies.Values)
        {
            try
            {
                decode(bytes);
            }
            catch (FormatException)
            {
                // It was refused.
            }
        }
    });

    [Fact]
    public void A_start_needs_an_id_and_an_environment_of_pairs()
    {
        Assert.Throws<FormatException>(() => StartRequest.Decode(new StartRequest { Id = "" }.Encode()));
        Assert.Throws<FormatException>(() => StartRequest.Decode(new StartRequest { Id = new string('x', 257) }.Encode()));
        Assert.Throws<FormatException>(() => StartRequest.Decode(new StartRequest { Id = "x", Environment = ["A"] }.Encode()));
        Assert.Equal(0, StartRequest.Decode(new StartRequest { Id = "x", TimeLimit = -5 }.Encode()).TimeLimit);
    }
}
