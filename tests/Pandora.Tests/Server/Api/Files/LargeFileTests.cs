using System.Security.Cryptography;
using Pandora.Tests.Telemetry;

namespace Pandora.Tests.Api.Files;

/// <summary>The memory that the server uses for large files. Each test runs alone, because it measures that of the process.</summary>
[Collection(nameof(Alone))]
public sealed class LargeFileTests
{
    [Fact]
    public async Task A_large_file_is_read_in_bounded_memory()
    {
        const int Size = 64 * 1024 * 1024;
        await using var files = await GuestFiles.StartAsync();
        using (var file = File.OpenHandle(files["a"], FileMode.Create, FileAccess.Write))
        {
            RandomAccess.SetLength(file, Size);
        }

        using var answer = await files.Server.Http.GetAsync(files.Address("a"), HttpCompletionOption.ResponseHeadersRead);
        var before = GC.GetTotalMemory(forceFullCollection: true);
        await using var stream = await answer.Content.ReadAsStreamAsync();
        var (buffer, count, most) = (new byte[64 * 1024], 0L, 0L);
        while (await stream.ReadAsync(buffer) is var read && read > 0)
        {
            count += read;
            if (count % (8 * 1024 * 1024) < read)
            {
                most = Math.Max(most, GC.GetTotalMemory(forceFullCollection: true) - before);
            }
        }

        Assert.Equal(Size, count);
        Assert.InRange(most, long.MinValue, 16 * 1024 * 1024);
    }

    [Fact]
    public async Task A_large_body_is_written_in_bounded_memory()
    {
        const int Size = 64 * 1024 * 1024;
        await using var files = await GuestFiles.StartAsync();
        var before = GC.GetTotalMemory(forceFullCollection: true);
        using var body = new GrowingBody(Size, before);
        using var answer = await files.SendAsync(HttpMethod.Put, files.Address("a"), new StreamContent(body, 64 * 1024));
        Assert.Equal(201, (int)answer.StatusCode);
        await using var file = File.OpenRead(files["a"]);
        Assert.Equal(Convert.ToHexString(body.Hash), Convert.ToHexString(await SHA256.HashDataAsync(file)));
        Assert.InRange(body.MostMemory, long.MinValue, 16 * 1024 * 1024);
    }

    /// <summary>Random bytes, and the most memory that was used while they were read.</summary>
    private sealed class GrowingBody(int size, long before) : MemoryStream
    {
        private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        private readonly Random _random = new(1);
        private int _left = size;

        // Its length is not known before.
        public override bool CanSeek => false;

        public long MostMemory { get; private set; }

        public byte[] Hash { get; private set; } = [];

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            var count = Math.Min(buffer.Length, _left);
            _random.NextBytes(buffer.Span[..count]);
            _hash.AppendData(buffer.Span[..count]);
            _left -= count;
            Hash = count == 0 ? _hash.GetCurrentHash() : Hash;
            if (_left % (8 * 1024 * 1024) < count)
            {
                MostMemory = Math.Max(MostMemory, GC.GetTotalMemory(forceFullCollection: true) - before);
            }

            return ValueTask.FromResult(count);
        }

        protected override void Dispose(bool disposing)
        {
            _hash.Dispose();
            base.Dispose(disposing);
        }
    }
}
