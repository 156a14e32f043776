using Microsoft.Extensions.Time.Testing;
using Pandora.Vmm;
using Pandora.Vmm.Qemu;

namespace Pandora.Tests.Vmm;

public sealed class SealedMemoryTests : IDisposable
{
    private readonly string _path = Path.GetTempFileName();
    private readonly FakeTimeProvider _time = new();
    private readonly SealedMemory _memory;

    public SealedMemoryTests() => _memory = new SealedMemory(_time);

    public void Dispose()
    {
        _memory.Dispose();
        File.Delete(_path);
    }

    [Fact]
    public void Sealed_memory_cannot_be_written_to_and_follows_its_file()
    {
        using (var file = File.OpenWrite(_path))
        {
            file.SetLength(1 << 20);
            file.Write("memory"u8);
        }

        var path = _memory.PathOf(_path);
        Assert.Equal(path, _memory.PathOf(_path));
        Assert.Equal(File.ReadAllBytes(_path), File.ReadAllBytes(path));
        // Root may open the file for writing, as QEMU does, but no process can write to it.
        using (var opened = File.OpenHandle(path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite))
        {
            Assert.Throws<UnauthorizedAccessException>(() => RandomAccess.Write(opened, "M"u8, 0));
            Assert.ThrowsAny<Exception>(() => RandomAccess.SetLength(opened, 1));
        }

        Assert.Equal((byte)'m', File.ReadAllBytes(path)[0]);
        File.WriteAllText(_path, "another");
        Assert.Equal("another", File.ReadAllText(_memory.PathOf(_path)));
    }

    [Fact]
    public void A_copy_that_was_not_used_for_some_minutes_is_disposed_for_another_one()
    {
        var other = Path.GetTempFileName();
        try
        {
            File.WriteAllText(_path, "one");
            File.WriteAllText(other, "other");
            var path = _memory.PathOf(_path);
            using var mapped = File.OpenHandle(path);
            _time.Advance(SealedMemory.LongestUnused);
            Assert.Equal(path, _memory.PathOf(_path));
            _memory.PathOf(other);
            Assert.Equal("one", File.ReadAllText(path));
            var target = new FileInfo(path).LinkTarget;
            _time.Advance(SealedMemory.LongestUnused);
            Assert.Equal("other", File.ReadAllText(_memory.PathOf(other)));
            // Another test may have the descriptor's number now.
            Assert.True(!File.Exists(path) || new FileInfo(path).LinkTarget != target);
            Assert.Equal(3, RandomAccess.GetLength(mapped));
            Assert.Equal("one", File.ReadAllText(_memory.PathOf(_path)));
        }
        finally
        {
            File.Delete(other);
        }
    }

    [Fact]
    public void A_missing_file_is_an_error() => Assert.Throws<VmmException>(() => _memory.PathOf("/no/such/memory"));
}
