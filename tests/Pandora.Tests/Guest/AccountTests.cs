using Pandora.Agent.Processes;

namespace Pandora.Tests.Guests;

/// <summary>Users and their groups, from files that a guest may have written as it likes.</summary>
public sealed class AccountTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;

    public AccountTests()
    {
        File.WriteAllText($"{_directory}/passwd", """
            root:x:0:0:root:/root:/bin/bash
            user:x:1000:1001:,,,:/home/user:/bin/zsh
            noshell:x:1002:1002::/nowhere:
            # a comment
            short:x:5
            word:x:abc:1::/:/bin/sh
            all:x:4294967295:1::/:/bin/sh
            negative:x:-1:1::/:/bin/sh
            1003:x:2000:2000::/home/1003:/bin/sh
            zeros:x:0077:77::/home/zeros:/bin/sh

            """);
        File.WriteAllText($"{_directory}/group", """
            root:x:0:
            users:x:1001:user
            docker:x:999:other,user
            again:x:999:user
            wrong:x:abc:user
            all:x:4294967295:user
            usernot:x:5:user2,auser
            cut:x:6

            """);
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Theory]
    [InlineData("root", "root", 0, 0, "/root", "/bin/bash", "0")]
    [InlineData("0", "root", 0, 0, "/root", "/bin/bash", "0")]
    [InlineData("user", "user", 1000, 1001, "/home/user", "/bin/zsh", "1001 999")]
    [InlineData("1000", "user", 1000, 1001, "/home/user", "/bin/zsh", "1001 999")]
    [InlineData("noshell", "noshell", 1002, 1002, "/nowhere", "/bin/sh", "1002")]
    [InlineData("1003", "1003", 2000, 2000, "/home/1003", "/bin/sh", "2000")] // A name that is a number.
    [InlineData("12345", "12345", 12345, 12345, "/", "/bin/sh", "12345")] // A number without a name.
    public void A_user_is_found_by_name_and_by_number(
        string text, string name, uint user, uint group, string home, string shell, string groups)
    {
        var account = Account.Find(text, _directory)!;
        Assert.Equal((name, user, group, home, shell), (account.Name, account.User, account.Group, account.Home, account.Shell));
        Assert.Equal(groups, string.Join(' ', account.Groups));
    }

    [Theory]
    [InlineData("nobody")]
    [InlineData("")]
    [InlineData("-1")]
    [InlineData("+0")]
    [InlineData(" 0")]
    [InlineData("0x0")]
    [InlineData("4294967295")] // setuid(2) takes it for "no change".
    [InlineData("4294967296")]
    [InlineData("word")]
    [InlineData("all")]
    [InlineData("negative")]
    [InlineData("short")]
    [InlineData("user:x")]
    [InlineData("# a comment")]
    public void What_is_no_user_is_none(string text) => Assert.Null(Account.Find(text, _directory));

    [Fact]
    public void Without_the_files_there_is_root_and_every_number()
    {
        var none = $"{_directory}/none";
        Assert.Equal((0u, "/root"), Account.Find("root", none) is { } root ? (root.User, root.Home) : default);
        Assert.Equal([5u], Account.Find("5", none)!.Groups);
        Assert.Null(Account.Find("user", none));
        Directory.CreateDirectory($"{none}/passwd");
        Assert.NotNull(Account.Find("root", none));
    }
}
