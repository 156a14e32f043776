using CsCheck;
using Pandora.Agent.Protocol;

namespace Pandora.Tests.Guests;

public sealed class AgentProtocolTests
{
    private static readonly Gen<(AgentMessage Message, uint Id, byte[] Body)> Frames = Gen.Select(
        Gen.Byte.Select(b => (AgentMessage)b), Gen.UInt, Gen.Byte.Array[0, 300]);

    [Fact]
    public void Frames_are_decoded_wherever_the_stream_is_cut() => Gen.Select(Frames.Array[1, 5], Gen.Int[1, 40]).Sample((frames, step) =>
    {
        var bytes = frames.SelectMany(f => AgentProtocol.Encode(f.Message, f.Id, f.Body)).ToArray();
        var (read, used) = (new List<AgentFrame>(), 0);
        for (var end = 0; end < bytes.Length;)
        {
            end = Math.Min(bytes.Length, end + step);
            while (AgentProtocol.Decode(bytes.AsSpan(used, end - used), out var frame) is var size && size != 0)
            {
                Assert.True(size > 0);
                used += size;
                read.Add(frame);
            }
        }

        Assert.Equal(bytes.Length, used);
        Assert.Equal(
            frames.Select(f => (f.Message, f.Id, Convert.ToHexString(f.Body))),
            read.Select(f => (f.Message, f.Id, Convert.ToHexString(f.Body.Span))));
    });

    [Theory]
    [InlineData("504E4541")] // another magic
    [InlineData("51")]
    [InlineData("504E444102")] // version 2
    [InlineData("504E4441010200000000FFFFFF7F")] // two gigabytes
    [InlineData("504E4441010200000000FFFFFFFF")] // a negative length
    [InlineData("504E444101020000000001400000")] // one byte too many
    public void Bytes_that_start_no_frame_are_refused_at_once(string bytes) =>
        Assert.Equal(-1, AgentProtocol.Decode(Convert.FromHexString(bytes), out _));

    [Theory]
    [InlineData("")]
    [InlineData("504E44")]
    [InlineData("504E444101020000000000400000")] // the longest allowed body, which has not arrived
    public void The_start_of_a_frame_waits_for_the_rest(string bytes) =>
        Assert.Equal(0, AgentProtocol.Decode(Convert.FromHexString(bytes), out _));

    [Fact]
    public void A_body_over_the_limit_is_not_encoded() =>
        Assert.Throws<ArgumentException>(() => AgentProtocol.Encode(AgentMessage.Ping, 1, new byte[AgentProtocol.MaxBody + 1]));

    [Fact]
    public void A_resume_is_decoded_as_encoded_and_other_bytes_are_refused()
    {
        var body = new ResumeBody(
            1_795_536_956_901_323_970, [1, 2, 3], "pandora-abcdefgh", "0123456789abcdef0123456789abcdef", [9, 8], [7]);
        var bytes = body.Encode();
        var read = ResumeBody.Decode(bytes);
        Assert.Equal((body.UnixNanoseconds, body.Hostname, body.MachineId), (read.UnixNanoseconds, read.Hostname, read.MachineId));
        Assert.Equal(body.Seed, read.Seed);
        Assert.Equal(body.HostKey, read.HostKey);
        Assert.Equal(body.Secret, read.Secret);
        for (var length = 0; length < bytes.Length; length++)
        {
            Assert.Throws<FormatException>(() => ResumeBody.Decode(bytes.AsSpan(0, length)));
        }

        Assert.Throws<FormatException>(() => ResumeBody.Decode([.. bytes, 0]));
    }
}
